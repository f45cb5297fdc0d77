"""What can be told: one method, and one error that says what to do about it."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from ferryman.core.errors import FerrymanError
from ferryman.monitor.alerts.alert import Notice


class Receiver(Protocol):
    """Tell one place. It may be told the same notice again, with the same id, after a crash or an unclear end."""

    def send(self, notice: Notice) -> None:
        """Return once the receiver has it, within the time limit; raises Undelivered with no secret in its text."""


class Undelivered(FerrymanError):
    """Say why a notice didn't arrive; `is_final` where the receiver won't take this one however often it comes."""

    def __init__(self, message: str, *, is_final: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.is_final = is_final
        self.retry_after_s = retry_after_s


@contextlib.contextmanager
def limited(seconds: float, link: Callable[[], socket.socket | None]) -> Iterator[None]:
    """Shut a connection after `seconds`, whatever it does: one that drips never runs into a socket's own limit."""

    def shut() -> None:
        with contextlib.suppress(OSError):
            if (found := link()) is not None:
                socket.socket.shutdown(found, socket.SHUT_RDWR)  # not TLS' own farewell, which would wait

    timer = threading.Timer(seconds, shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
