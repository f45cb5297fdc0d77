"""The process that workers are forked from: it imports what they need and does nothing else.

It dies when the server's end of its socket closes, and takes its children with it.
"""

import ctypes
import gc
import importlib
import json
import logging
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NoReturn, Protocol

from ferryman.core.plugins import plugins
from ferryman.core.privacy import forbid_telemetry
from ferryman.server.data.worker.branch import fill_standard_files
from ferryman.server.data.worker.process import ignore_signals

ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
"""What a zygote has in its environment, unless the user says otherwise: engines have threads of their own."""

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_MOST_MESSAGE_BYTES = 4096
_M_ARENA_MAX = -8
_MOST_DESCRIPTORS = 1 << 20


class Closable(Protocol):
    """Be a socket or a selector."""

    def close(self) -> None:
        """Close it."""


class _Nursery:
    """Fork children, kill them, and tell how each ended."""

    def __init__(self, link: socket.socket, *others: Closable) -> None:
        self._link = link
        self._not_inherited = (link, *others)
        self._numbers: dict[int, int] = {}  # by process id

    def handle(self, message: bytes, descriptors: Sequence[int]) -> None:
        """Do what the server asks."""
        order = json.loads(message)
        if "import" in order:
            _import_all(order["import"])
        if "fork" in order:
            self._fork(order["fork"], order, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        if "kill" in order:
            for pid, number in self._numbers.items():
                if number == order["kill"]:
                    os.kill(pid, signal.SIGKILL)

    def collect(self) -> None:
        """Tell of every child that has ended."""
        while self._numbers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            number = self._numbers.pop(pid, None)
            if number is not None:
                self._tell({"number": number, "status": os.waitstatus_to_exitcode(status)})

    def end(self) -> None:
        """Kill every child and wait for it."""
        for pid in self._numbers:
            os.kill(pid, signal.SIGKILL)
        for pid in self._numbers:
            os.waitpid(pid, 0)

    def _fork(self, number: int, role: Mapping[str, str], descriptors: Sequence[int]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._numbers[pid] = number
            self._tell({"number": number, "pid": pid})
            return
        try:
            _become_child(parent, role["name"])
            for closable in self._not_inherited:
                closable.close()
            module, _, name = role["runs"].partition(":")
            getattr(importlib.import_module(module), name)(*descriptors)
        finally:
            os._exit(70)  # it never returns; whatever it raised is on stderr

    def _tell(self, message: dict[str, int]) -> None:
        with suppress(OSError):  # the server has gone: the next read says so
            self._link.send(json.dumps(message).encode())


def _become_child(parent: int, name: str) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))
    if os.getppid() != parent:
        os._exit(0)


def _prctl(option: int, value: int | ctypes.c_char_p) -> None:
    with suppress(AttributeError, OSError):  # not on this system: the end of the socket ends the child, too
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def import_plugins() -> None:
    """Import what every worker needs, whatever it loads."""
    for kind in ("runtimes", "tasks"):
        plugins(kind)


def _import_all(modules: Sequence[str]) -> None:
    import_plugins()
    forbid_telemetry()
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - a package of the user's; the model that needs it will say so
            print(f"ferryman: {name} can't be imported: {error}", file=sys.stderr)  # noqa: T201 - this process's log
    gc.collect()
    gc.freeze()  # what is here now is never looked at again, so that children keep sharing it


def branch_off(descriptor: int) -> NoReturn:
    """Be a zygote in a process that was just forked from the server's: keep nothing of it but what is imported."""
    try:
        _forget_streams()
        os.closerange(3, descriptor)
        os.closerange(descriptor + 1, _MOST_DESCRIPTORS)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        with suppress(AttributeError, OSError, ValueError):  # not glibc (which has read its environment), or no number
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, int(os.environ["MALLOC_ARENA_MAX"]))
        main(descriptor)
    except BaseException:  # noqa: BLE001 - the boundary of a process
        traceback.print_exc()
        os._exit(70)
    os._exit(0)


def _forget_streams() -> None:
    """Write to standard output and errors only: other streams lose their files, whose numbers are used again."""
    sys.stdout = os.fdopen(1, "w", buffering=1, errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()


def main(descriptor: int) -> None:
    """Import what is asked, and fork on demand, until the server's end closes."""
    ignore_signals()
    fill_standard_files()
    link = socket.socket(fileno=descriptor)
    link.set_inheritable(False)
    wake_in, wake_out = socket.socketpair()
    wake_in.setblocking(False)
    wake_out.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_in.fileno(), warn_on_full_buffer=False)
    _prctl(_PR_SET_NAME, ctypes.c_char_p(b"ferryman-zygote"))
    with selectors.DefaultSelector() as selector:
        nursery = _Nursery(link, wake_in, wake_out, selector)
        selector.register(link, selectors.EVENT_READ)
        selector.register(wake_out, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if wake_out in ready:
                with suppress(BlockingIOError):
                    wake_out.recv(4096)
            nursery.collect()
            if link in ready:
                try:
                    message, descriptors, _, _ = socket.recv_fds(link, _MOST_MESSAGE_BYTES, 8)
                except ConnectionResetError:  # the server closed, and had not read all that was told
                    break
                if not message:
                    break
                nursery.handle(message, descriptors)
        nursery.end()
    for closable in (link, wake_in, wake_out):
        closable.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
