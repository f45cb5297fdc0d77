"""The process that workers are forked from: it imports what they need and does nothing else.

It dies when the server's end of its socket closes, and takes its children with it.
"""

import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from ferryman.core.plugins import plugins
from ferryman.server.data.worker.process import work

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_MOST_MESSAGE_BYTES = 4096


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
        if "fork" in order:
            self._fork(order["fork"], descriptors)
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

    def _fork(self, number: int, descriptors: Sequence[int]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._numbers[pid] = number
            self._tell({"number": number, "pid": pid})
            return
        try:
            _become_child(parent)
            for closable in self._not_inherited:
                closable.close()
            work(*descriptors)
        finally:
            os._exit(70)  # `work` never returns; whatever it raised is on stderr

    def _tell(self, message: dict[str, int]) -> None:
        with suppress(OSError):  # the server has gone: the next read says so
            self._link.send(json.dumps(message).encode())


def _become_child(parent: int) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_NAME, ctypes.c_char_p(b"ferryman-worker"))
    if os.getppid() != parent:
        os._exit(0)


def _prctl(option: int, value: int | ctypes.c_char_p) -> None:
    with suppress(AttributeError, OSError):  # not on this system: the end of the socket ends the child, too
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _import_all(modules: Sequence[str]) -> None:
    for kind in ("runtimes", "tasks"):
        plugins(kind)
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - a package of the user's; the model that needs it will say so
            print(f"ferryman: {name} can't be imported: {error}", file=sys.stderr)  # noqa: T201 - this process's log


def main(descriptor: int, modules: Sequence[str]) -> None:
    """Import, then fork on demand until the server's end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    link = socket.socket(fileno=descriptor)
    link.set_inheritable(False)
    wake_in, wake_out = socket.socketpair()
    wake_in.setblocking(False)
    wake_out.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_in.fileno(), warn_on_full_buffer=False)
    _prctl(_PR_SET_NAME, ctypes.c_char_p(b"ferryman-zygote"))
    _import_all(modules)
    gc.collect()
    gc.freeze()  # what is here now is never looked at again, so that children keep sharing it
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
                message, descriptors, _, _ = socket.recv_fds(link, _MOST_MESSAGE_BYTES, 8)
                if not message:
                    break
                nursery.handle(message, descriptors)
        nursery.end()
    for closable in (link, wake_in, wake_out):
        closable.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
