"""What is turned away before the application hears of it, or hears it whole."""

from dataclasses import dataclass
from typing import Final

TLS: Final = "tls"
HTTP2: Final = "http2"


@dataclass(frozen=True, slots=True)
class Refused:
    """Say who was turned away and why.

    `kind` is what figures call it: an HTTP status as text, TLS for a handshake that failed, HTTP2 for connections and
    streams that broke its rules. `status` is what the client was told: HTTP's, HTTP/2's code, or 0 for no answer.
    """

    kind: str
    status: int
    reason: str
    peer: str
    method: str = ""
    path: str = ""
