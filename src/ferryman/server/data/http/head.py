"""The head of a request: from its bytes to values that are safe to act on, or a refusal."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools

from ferryman.server.data.http.limits import Limits

Header = tuple[bytes, bytes]
REQUEST_ID = b"x-request-id"

END = b"\r\n\r\n"

# llhttp also lets other versions, other protocols' names and doubled spaces through.
_REQUEST_LINE = re.compile(rb"([A-Z-]+) ([\x21-\x7e]+) HTTP/1\.([01])\r\n")
_REQUEST_ID = re.compile(rb"[\x20-\x7e]{1,128}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ONLY_ONCE = frozenset((b"host", b"content-length", b"transfer-encoding", b"content-encoding", b"origin", b"expect"))
_ENCODINGS = {b"gzip": "gzip", b"x-gzip": "gzip", b"deflate": "deflate", b"identity": ""}


class Refusal(Exception):
    """Refuse a request before the application sees it; the connection ends where its end can't be known."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True, eq=False)
class Head:
    """Hold what a request's head says; a head that comes again is the same object.

    `headers` have lower-case names, and of several of one name the first. `length` is None for a body in chunks.
    """

    method: str
    path: str
    query: str
    headers: Mapping[bytes, bytes]
    size_bytes: int
    length: int | None
    keeps_alive: bool
    is_http_10: bool
    expects_continue: bool
    upgrades: bool  # to a WebSocket
    encoding: str  # of the body: "", "gzip" or "deflate"
    accepts: str  # for the answer's body, the same
    origin: str | None
    host: str
    request_id: str = ""  # the caller's own name for the request
    note: Any = None  # the application's own, for the next request with this head


def read_request_id(given: bytes | None) -> str:
    """Give a caller's own name for its request; nothing where it has none, or one that isn't fit for a log."""
    return given.decode() if given is not None and _REQUEST_ID.fullmatch(given) else ""


def check_start(start: bytes, limits: Limits) -> None:
    """Raise Refusal where the beginning of a head can't become a good one, so that nobody waits for its end."""
    if len(start) > limits.header_bytes:
        if start.find(b"\r\n", 0, limits.target_bytes + 32) < 0:
            raise Refusal(414, f"the request's target is longer than {limits.target_bytes} bytes")
        raise _too_large(limits)
    if not 64 < start[0] < 91:  # methods begin with a capital letter
        raise Refusal(400, "this is not HTTP/1.1")
    if (end := start.find(b"\n")) >= 0 and not _REQUEST_LINE.match(start, 0, end + 1):
        raise Refusal(400, "the request line is not one of HTTP/1.1")


def parse_head(block: bytes, limits: Limits) -> Head:
    """Give what a head says, from its first byte to its empty line; raises Refusal."""
    if len(block) > limits.header_bytes:
        check_start(block, limits)
    line = _REQUEST_LINE.match(block)
    if line is None:
        raise Refusal(400, "the request line is not one of HTTP/1.1")
    method, target, minor = line.groups()
    if len(target) > limits.target_bytes:
        raise Refusal(414, f"the request's target is longer than {limits.target_bytes} bytes")
    if method == b"CONNECT":
        raise Refusal(405, "this is not a proxy")
    parser = _parse(block)
    if len(parser.headers) > limits.header_count:
        raise Refusal(431, f"the request has more than {limits.header_count} headers")
    fields = parser.fields()
    is_http_10 = minor == b"0"
    if not is_http_10 and b"host" not in fields:
        raise Refusal(400, "the request has no Host header")
    path, query = _split(target)
    return Head(
        method=method.decode(),
        path=path,
        query=query,
        headers=fields,
        size_bytes=len(block),
        length=_length(fields, is_http_10=is_http_10),
        keeps_alive=_keeps_alive(fields.get(b"connection", b""), is_http_10=is_http_10),
        is_http_10=is_http_10,
        expects_continue=_expects(fields) and not is_http_10,
        upgrades=fields.get(b"upgrade", b"").lower() == b"websocket",
        encoding=_encoding(fields.get(b"content-encoding", b"")),
        accepts=_accepted(fields.get(b"accept-encoding", b"")),
        origin=fields[b"origin"].decode("latin-1") if b"origin" in fields else None,
        host=fields.get(b"host", b"").decode("latin-1"),
        request_id=read_request_id(fields.get(REQUEST_ID)),
    )


class _Parser:
    """Take what llhttp finds."""

    def __init__(self) -> None:
        self.headers: list[Header] = []
        self.is_complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.is_complete = True

    def fields(self) -> dict[bytes, bytes]:
        """Give each name's value; raises Refusal where one that steers us comes twice."""
        fields = dict(reversed(self.headers))
        if len(fields) < len(self.headers):
            names = [name for name, _ in self.headers]
            for name in _ONLY_ONCE.intersection(names):
                if names.count(name) > 1:
                    raise Refusal(400, f"the request has two {name.decode()} headers")
            fields[b"connection"] = b",".join(value for name, value in self.headers if name == b"connection")
        return fields


def _parse(block: bytes) -> _Parser:
    found = _Parser()
    try:
        httptools.HttpRequestParser(found).feed_data(block)
    except httptools.HttpParserUpgrade:
        pass  # whether it is one that we know is our own question
    except httptools.HttpParserError as error:
        raise Refusal(400, f"the request is not HTTP/1.1: {error}") from None
    if not found.is_complete:
        raise Refusal(400, "the request is not HTTP/1.1")
    return found


def _keeps_alive(connection: bytes, *, is_http_10: bool) -> bool:
    if connection in (b"", b"keep-alive"):
        return bool(connection) or not is_http_10
    tokens = {token.strip() for token in connection.lower().split(b",")}
    return b"close" not in tokens and (b"keep-alive" in tokens or not is_http_10)


def _length(fields: dict[bytes, bytes], *, is_http_10: bool) -> int | None:
    coding = fields.get(b"transfer-encoding")
    declared = fields.get(b"content-length")
    if coding is None:
        if declared is None:
            return 0
        if not declared.isdigit() or len(declared) > 18:
            raise Refusal(400, f"content-length {declared.decode('latin-1')!r:.40} is not a number")
        return int(declared)
    if declared is not None or is_http_10:
        raise Refusal(400, "the request has Transfer-Encoding where it must not")
    if coding.lower() != b"chunked":
        raise Refusal(501, f"transfer-encoding {coding.decode('latin-1')!r:.40} is not known; there is 'chunked'")
    return None


def _expects(fields: dict[bytes, bytes]) -> bool:
    expected = fields.get(b"expect")
    if expected is None:
        return False
    if expected.lower() != b"100-continue":
        raise Refusal(417, f"can't meet the expectation {expected.decode('latin-1')!r:.40}")
    return True


@lru_cache(maxsize=256)
def _split(target: bytes) -> tuple[str, str]:
    """Give the path, decoded, and the query as it came."""
    if not target.startswith((b"/", b"*")):
        scheme, found, rest = target.partition(b"://")
        if not found or scheme.lower() not in (b"http", b"https", b"ws", b"wss"):
            raise Refusal(400, "the request's target is neither a path nor a URL")
        _, slash, path = rest.partition(b"/")
        target = slash + path or b"/"
    if b"#" in target:
        raise Refusal(400, "the request's target has a fragment")
    path, _, query = target.partition(b"?")
    try:
        decoded = unquote_to_bytes(path).decode() if b"%" in path else path.decode()
    except UnicodeDecodeError:
        raise Refusal(400, "the request's path is not UTF-8") from None
    if _CONTROL.search(decoded):
        raise Refusal(400, "the request's path has control characters")
    return decoded, query.decode()


def _encoding(value: bytes) -> str:
    if not value:
        return ""
    encoding = _ENCODINGS.get(value.lower())
    if encoding is None:
        raise Refusal(415, f"content-encoding {value.decode('latin-1')!r:.40} is not known; there are gzip and deflate")
    return encoding


@lru_cache(maxsize=64)
def _accepted(value: bytes) -> str:
    """Give the coding that the client takes, the first of those that we know; "" where it takes none."""
    for choice in value.lower().split(b","):
        coding, _, weight = choice.partition(b";")
        encoding = _ENCODINGS.get(coding.strip(), "")
        if encoding and weight.replace(b" ", b"").rstrip(b"0") not in (b"q=", b"q=0."):
            return encoding
    return ""


def _too_large(limits: Limits) -> Refusal:
    return Refusal(431, f"the request's headers are larger than {limits.header_bytes} bytes")
