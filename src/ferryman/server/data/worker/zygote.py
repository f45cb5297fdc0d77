"""The server's side of the zygote: the process that workers are forked from."""

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ferryman.server.data.worker.branch import Branch, count_threads, fill_standard_files
from ferryman.server.data.worker.zygote_main import ENVIRONMENT, branch_off, import_plugins

_MODULE = "ferryman.server.data.worker.zygote_main"
_MOST_MESSAGE_BYTES = 4096
ORPHANED = "ended with the process that it was forked from"


@dataclass(frozen=True, slots=True)
class Role:
    """Say what a process is called, and the function ("module:name") that it runs, which never returns."""

    name: str
    runs: str


WORKER = Role("ferryman-worker", "ferryman.server.data.worker.process:work")


@dataclass(slots=True, eq=False)
class Child:
    """Hold one forked process; `on_exit` gets how it ended, once, in words."""

    number: int
    on_exit: Callable[[str], None]
    pid: int = 0
    forked: asyncio.Event = field(default_factory=asyncio.Event)
    is_gone: bool = False


class Zygote:
    """Fork workers from a process that has imported what they need; use it from one event loop.

    `modules` are imported there before the first fork; they may be set until `start`. Where the zygote itself dies its
    children die with it, and the next `fork` starts another.
    """

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self.modules = tuple(modules)
        self._is_told = False  # which modules to import
        self._process: subprocess.Popen[bytes] | Branch | None = None
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._children: dict[int, Child] = {}
        self._last_number = 0

    @property
    def pid(self) -> int:
        """Give the zygote's own process id; 0 before the start."""
        return self._process.pid if self._process else 0

    def branch(self) -> None:
        """Begin as a fork of this very process, so that both share what it has imported by now.

        Does nothing where other threads run: what they have locked would stay locked in the fork. `start` then starts
        a process from nothing, which takes longer and shares no memory.
        """
        fill_standard_files()
        if self._socket is not None or count_threads() != 1:
            return
        import_plugins()
        if count_threads() != 1:  # a plug-in has begun one
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None: it was closed before Python began
            stream.flush()
        gc.freeze()  # a collection writes into every object that it looks at, and ends its being shared
        pid = os.fork()
        if not pid:
            branch_off(theirs.fileno())
        theirs.close()
        self._take_over(ours, Branch(pid))

    def start(self) -> None:
        """Begin to import; returns at once, and works before there is a loop."""
        if self._socket is None:
            self._spawn()
        if not self._is_told:
            self._is_told = self._send({"import": self.modules})

    def fork(self, descriptors: Sequence[int], on_exit: Callable[[str], None], *, role: Role = WORKER) -> Child:
        """Ask for a process that gets `descriptors`, which stay the caller's to close; returns at once."""
        self._last_number += 1
        child = Child(self._last_number, on_exit)
        for _ in range(2):  # once more where the zygote has died and nobody heard of it yet
            self.start()
            self._listen()
            if self._send({"fork": child.number, "name": role.name, "runs": role.runs}, descriptors):
                break
            self._lose()
        self._children[child.number] = child
        return child

    def kill(self, child: Child) -> None:
        """End a worker at once. The zygote does it: it alone knows that the process id is still this child's."""
        if not child.is_gone and not self._send({"kill": child.number}):
            self._lose()

    def close(self) -> None:
        """End the zygote and every worker that is left; waits a moment for it."""
        self._lose()
        if self._process is not None:
            try:
                self._process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _spawn(self) -> None:
        if self._process is not None:
            self._process.kill()  # the one before: nobody else collects it
            self._process.wait()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - this interpreter
                [sys.executable, "-m", _MODULE, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env={**ENVIRONMENT, **os.environ},
            )
        self._take_over(ours, process)

    def _take_over(self, link: socket.socket, process: subprocess.Popen[bytes] | Branch) -> None:
        link.setblocking(False)
        self._socket, self._process, self._is_told = link, process, False

    def _listen(self) -> None:
        if self._loop is None and self._socket is not None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._socket.fileno(), self._hear)

    def _send(self, message: Mapping[str, object], descriptors: Sequence[int] = ()) -> bool:
        if self._socket is None:
            return False
        encoded = json.dumps(message).encode()
        try:
            if descriptors:
                socket.send_fds(self._socket, [encoded], list(descriptors))
            else:
                self._socket.send(encoded)
        except OSError:
            return False
        return True

    def _hear(self) -> None:
        while self._socket is not None:
            try:
                message = self._socket.recv(_MOST_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._lose()
                return
            self._take(json.loads(message))

    def _take(self, message: dict[str, int]) -> None:
        child = self._children.get(message["number"])
        if child is None:
            return
        if "pid" in message:
            child.pid = message["pid"]
            child.forked.set()
        else:
            self._bury(child, describe_exit(message["status"]))

    def _bury(self, child: Child, reason: str) -> None:
        self._children.pop(child.number, None)
        child.is_gone = True
        child.forked.set()
        child.on_exit(reason)

    def _lose(self) -> None:
        if self._socket is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
        self._socket = None
        self._loop = None
        if self._process is not None and self._children:
            self._process.kill()  # its children die with it, those too that it can't be told about any more
        for child in list(self._children.values()):
            self._bury(child, ORPHANED)


def describe_exit(status: int) -> str:
    """Say how a process ended: `status` is its exit code, or minus the signal that killed it."""
    if status >= 0:
        return f"exited with code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was killed by {name}"
