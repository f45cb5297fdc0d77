"""Decode a body in chunks (RFC 9112, 7.1), and nothing that only looks like one."""

import re

from ferryman.server.data.http.head import Refusal
from ferryman.server.data.http.limits import LARGER

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n")
_LINE_BYTES = 256
_TRAILER_BYTES = 8 * 1024
_SIZE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)


class Chunks:
    """Decode one body piece by piece; `size` counts what its chunks have declared until now."""

    def __init__(self, limit_bytes: int) -> None:
        self.body = bytearray()  # not a list: a body of chunks of one byte would cost forty times its size
        self.size = 0
        self.is_done = False
        self._limit_bytes = limit_bytes
        self._state = _SIZE
        self._missing = 0  # of the chunk
        self._trailer_bytes = 0
        self._rest = b""

    def feed(self, received: bytes) -> bytes:
        """Take what came; gives what is behind the body's end. Raises Refusal."""
        if self._rest:
            received = self._rest + received
            self._rest = b""
        at = 0
        while self._state != _DONE:
            used = self._data(received, at) if self._state == _DATA else self._line(received, at)
            if not used:
                self._rest = received[at:]
                return b""
            at += used
        self.is_done = True
        return received[at:]

    def _data(self, received: bytes, at: int) -> int:
        part = received[at : at + self._missing]
        if part:
            self.body += part
            self._missing -= len(part)
        if not self._missing:
            self._state = _DATA_END
        return len(part)

    def _line(self, received: bytes, at: int) -> int:
        """Give how many bytes the line at this place has; 0 where it isn't whole."""
        end = received.find(b"\n", at, at + _LINE_BYTES) + 1
        if not end:
            if len(received) - at >= _LINE_BYTES:
                raise Refusal(400, "the body's chunks are malformed: a line is too long")
            return 0
        if self._state == _DATA_END:
            if received[at:end] != b"\r\n":
                raise Refusal(400, "the body's chunks are malformed: one is longer than it says")
            self._state = _SIZE
        elif self._state == _SIZE:
            self._begin(received, at, end)
        else:
            self._trailer(received, at, end)
        return end - at

    def _begin(self, received: bytes, at: int, end: int) -> None:
        found = _SIZE_LINE.fullmatch(received, at, end)
        if found is None:
            raise Refusal(400, "the body's chunks are malformed: a size is not a number")
        self._missing = int(found[1], 16)
        self.size += self._missing
        if self.size > self._limit_bytes:
            raise Refusal(413, f"the body is larger than {self._limit_bytes} bytes; {LARGER}")
        self._state = _DATA if self._missing else _TRAILERS

    def _trailer(self, received: bytes, at: int, end: int) -> None:
        if received[at:end] == b"\r\n":
            self._state = _DONE
            return
        self._trailer_bytes += end - at
        if self._trailer_bytes > _TRAILER_BYTES or not _TRAILER.fullmatch(received, at, end):
            raise Refusal(400, "the body's chunks are malformed: what follows them is no header")
