"""The server's side of the zygote: the process that workers are forked from."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

_MODULE = "ferryman.server.data.worker.zygote_main"
_MOST_MESSAGE_BYTES = 4096


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

    `modules` are imported there before the first fork. Where the zygote itself dies its children die with it, and the
    next `fork` starts another.
    """

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self._modules = tuple(modules)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._children: dict[int, Child] = {}
        self._last_number = 0

    @property
    def pid(self) -> int:
        """Give the zygote's own process id; 0 before the start."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Begin to import; returns at once, and works before there is a loop."""
        if self._socket is not None:
            return
        if self._process is not None:
            self._process.poll()  # the one before: nobody else collects it
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            environment = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", **os.environ}
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and names of modules from plug-ins
                [sys.executable, "-m", _MODULE, str(theirs.fileno()), *self._modules],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        ours.setblocking(False)
        self._socket = ours

    def fork(self, descriptors: Sequence[int], on_exit: Callable[[str], None]) -> Child:
        """Ask for a worker that gets `descriptors`, which stay the caller's to close; returns at once."""
        self._last_number += 1
        child = Child(self._last_number, on_exit)
        for _ in range(2):  # once more where the zygote has died and nobody heard of it yet
            self.start()
            self._listen()
            if self._send({"fork": child.number}, descriptors):
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

    def _listen(self) -> None:
        if self._loop is None and self._socket is not None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._socket.fileno(), self._hear)

    def _send(self, message: dict[str, int], descriptors: Sequence[int] = ()) -> bool:
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
            self._bury(child, "ended with the process that it was forked from")


def describe_exit(status: int) -> str:
    """Say how a process ended: `status` is its exit code, or minus the signal that killed it."""
    if status >= 0:
        return f"exited with code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was killed by {name}"
