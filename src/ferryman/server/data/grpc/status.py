"""How calls end: gRPC's status codes, which error is which, and the headers that say so."""

import math
import re
from typing import Final
from urllib.parse import quote

from ferryman.core.errors import FerrymanError
from ferryman.server.data.http.head import REQUEST_ID
from ferryman.server.data.signals.outcomes import told_as
from ferryman.server.data.telling import incident_of, words_of

OK: Final = 0
CANCELLED: Final = 1
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13

_PLAIN: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_MOST_MESSAGE: Final = 1500  # characters, encoded: clients take 8 KiB of trailers


class Unimplemented(FerrymanError):
    """Refuse a call of what this server doesn't offer."""


def explain(error: Exception) -> tuple[int, str]:
    """Give the status and the words for an error; what was not foreseen is logged under an id, never shown."""
    if isinstance(error, Unimplemented):
        return UNIMPLEMENTED, words_of(error)
    status = told_as(error).grpc
    if isinstance(error, FerrymanError) and status != INTERNAL:
        return status, words_of(error)
    return INTERNAL, incident_of(error)


def literal(name: bytes, value: bytes) -> bytes:
    """Give a header that no table remembers."""
    return b"\x00" + _sized(name) + _sized(value)


def trailers(status: int, message: str, retry_s: float | None = None) -> bytes:
    """Give the block of headers that ends a call."""
    block = literal(b"grpc-status", b"%d" % status)
    if message:
        block += literal(b"grpc-message", _percent(message))
    if retry_s is not None:
        block += literal(b"retry-after", b"%d" % max(1, math.ceil(retry_s)))
        block += literal(b"grpc-retry-pushback-ms", b"%d" % max(1, round(retry_s * 1000)))
    return block


def plain_http(status: int) -> bytes:
    """Give the block of headers that answers what is not gRPC."""
    return b"\x08\x03%d" % status + literal(b"content-length", b"0")


def _percent(message: str) -> bytes:
    text = quote(message.encode("utf-8", "replace"), safe=_PLAIN)[:_MOST_MESSAGE]
    return re.sub("%[0-9A-F]?$", "", text).encode()


def _sized(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    prefix, rest = b"\x7f", size - 127
    while rest >= 128:
        prefix += bytes((rest & 127 | 128,))
        rest >>= 7
    return prefix + bytes((rest,)) + text


START: Final = (
    b"\x88" + literal(b"content-type", b"application/grpc") + literal(b"grpc-accept-encoding", b"identity,gzip")
)
FINE: Final = trailers(OK, "")
_LONGEST_ID: Final = 126  # what one byte says
_REQUEST_ID: Final = b"\x00" + _sized(REQUEST_ID)


def named(request_id: str) -> bytes:
    """Give the header that says a request's id; nothing where it has none, or one that is not fit for a header."""
    is_fit = 0 < len(request_id) <= _LONGEST_ID and request_id.isascii() and request_id.isprintable()
    return b"%b%c%b" % (_REQUEST_ID, len(request_id), request_id.encode()) if is_fit else b""
