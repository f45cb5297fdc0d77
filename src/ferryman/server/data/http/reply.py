"""Render answers: status line, headers and body as the bytes that go out."""

import json
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus

from ferryman.server.data.http.head import Header
from ferryman.server.data.http.request import Response

_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_BODILESS = frozenset((204, 304))
_SMALL_BYTES = 64 * 1024  # so much is cheaper to copy than to send apart

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def refusal(status: int, message: str, *headers: Header, closes: bool = False) -> Response:
    """Give the protocol's error object."""
    if status in (429, 503):
        headers = (*headers, (b"retry-after", b"1"))
    return Response(status, json.dumps({"error": message}).encode(), headers=headers, closes=closes)


class Renderer:
    """Render answers; `tick` once a second keeps their Date right."""

    def __init__(self) -> None:
        self._starts: dict[tuple[int, bytes], bytes] = {}

    def tick(self) -> None:
        """Forget what holds the date."""
        self._starts.clear()

    def render(self, response: Response, connection: bytes, *, is_head: bool) -> Sequence[bytes | memoryview]:
        """Give the parts to send: one for a small answer. `connection` is a header line, or empty.

        Raises ValueError for a header that would end its line.
        """
        key = (response.status, response.content_type)
        start = self._starts.get(key) or self._start(key)
        body = response.body
        if response.headers:
            connection += lines_of(response.headers)
        if type(body) is bytes:
            if is_head or response.status in _BODILESS:
                return (_bare(start, connection, response.status, len(body)),)
            if len(body) <= _SMALL_BYTES:
                return (b"%b%bcontent-length: %d\r\n\r\n%b" % (start, connection, len(body), body),)
            return (b"%b%bcontent-length: %d\r\n\r\n" % (start, connection, len(body)), body)
        parts = [body] if isinstance(body, bytes | bytearray | memoryview) else body
        size = sum(len(part) if type(part) is bytes else memoryview(part).nbytes for part in parts)
        if is_head or response.status in _BODILESS:
            return (_bare(start, connection, response.status, size),)
        head = b"%b%bcontent-length: %d\r\n\r\n" % (start, connection, size)
        if size <= _SMALL_BYTES:
            return (b"".join((head, *parts)),)
        return (head, *parts)

    def _start(self, key: tuple[int, bytes]) -> bytes:
        status, content_type = key
        line = _LINES.get(status) or f"HTTP/1.1 {status} Status\r\n".encode()
        if b"\r" in content_type or b"\n" in content_type:
            raise ValueError("a content type with the end of a line")
        start = b"%bdate: %b\r\n" % (line, formatdate(usegmt=True).encode())
        if content_type and status not in _BODILESS:
            start += b"content-type: %b\r\n" % content_type
        self._starts[key] = start
        return start


def _bare(start: bytes, headers: bytes, status: int, size: int) -> bytes:
    if status in _BODILESS:
        return b"%b%b\r\n" % (start, headers)
    return b"%b%bcontent-length: %d\r\n\r\n" % (start, headers, size)


def lines_of(headers: Sequence[Header]) -> bytes:
    """Give headers as lines; raises ValueError for one that would end its line."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers):
        raise ValueError("a header with the end of a line")
    return lines
