"""An HTTP request and its answer as values, and what a transport asks of the application behind it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ferryman.server.data.http.head import Head, Header


@dataclass(slots=True, eq=False)
class Request:
    """Hold one request; `body` is whole, and empty while the request is admitted."""

    head: Head
    peer: str  # address of the other end
    body: bytes | bytearray = b""
    arrived_s: float = 0.0  # the loop's clock, at the last byte of the headers
    bytes_in: int = 0
    certificate: Any = None  # the client's, verified, in the form of ssl's getpeercert(); None without mutual TLS
    caller: Any = None  # who it is (the gate's Caller), set when the request is admitted
    reach: Any = None  # the models that it may know of (the gate's Models), set where pages are read
    note: Any = None  # the application's own, from `admit` to `answer`
    id: str = ""  # the caller's own name for it, or one that it was given here; its answer has it as X-Request-Id

    @property
    def method(self) -> str:
        """Give the method, as GET."""
        return self.head.method

    @property
    def path(self) -> str:
        """Give the path, percent-decoded and without the query."""
        return self.head.path

    @property
    def query(self) -> str:
        """Give what follows the path's question mark, as it came."""
        return self.head.query

    def header(self, name: bytes) -> bytes | None:
        """Give the first header of that (lower-case) name."""
        return self.head.headers.get(name)


@dataclass(slots=True, eq=False)
class Response:
    """Hold one answer; `body` may be parts, which are sent as they are. `closes` ends the connection after it."""

    status: int = 200
    body: bytes | Sequence[bytes | memoryview] = b""
    content_type: bytes = b"application/json"
    headers: Sequence[Header] = ()
    closes: bool = False


Respond = Callable[[Response], None]
"""Send the answer; called once, on the loop, now or later. Does nothing where the client has gone."""


class Stream(Protocol):
    """Be one open WebSocket, seen from the application."""

    def send_text(self, text: str) -> None:
        """Send one text message."""

    def send_bytes(self, payload: bytes) -> None:
        """Send one binary message."""

    def pause(self) -> None:
        """Read no more from the client for now."""

    def resume(self) -> None:
        """Read on."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye."""


class Listener(Protocol):
    """Hear what comes over one WebSocket."""

    @property
    def is_busy(self) -> bool:
        """Tell whether an answer is still to come, so that a server that stops waits for it."""

    def on_message(self, payload: str | bytes) -> None:
        """Take one whole message."""

    def on_close(self) -> None:
        """Know that the stream has ended, whoever ended it; called once."""


class Application(Protocol):
    """Answer requests. Nothing here may block or raise: it runs on the server's loop."""

    def admit(self, request: Request, length: int | None) -> Response | None:
        """Refuse a request by its headers alone, before its body is read; None lets it come.

        `length` is what its Content-Length declares (None: unknown, as for chunks).
        """

    def answer(self, request: Request, respond: Respond) -> None:
        """Answer a request that has come whole."""

    def forget(self, request: Request) -> None:
        """Know that an admitted request will never come whole, or that its client left before the answer."""

    def open_stream(self, request: Request, stream: Stream) -> Listener | Response:
        """Take a WebSocket, or refuse it with an answer."""
