"""Inflate bodies that come compressed, to a hard bound, and compress answers for clients that ask for it."""

import zlib

from ferryman.server.data.http.head import Header, Refusal
from ferryman.server.data.http.request import Response

_WBITS = {"gzip": 31, "deflate": 15}
_LEVEL = 1  # more of it costs more time than the bytes that it saves, on any network that a server is on
_COMPRESSED_FROM_BYTES = 16 * 1024
_PIECE_BYTES = 256 * 1024
_TEXTS = (b"application/json", b"text/", b"application/openmetrics-text", b"application/yaml")


class Inflater:
    """Inflate one body, a bounded piece of work at a time; `body` is what came out until now."""

    def __init__(self, packed: bytes | bytearray, encoding: str, limit_bytes: int) -> None:
        self.body = bytearray()
        self._rest: bytes | bytearray = packed
        self._encoding = encoding
        self._limit_bytes = limit_bytes
        self._inflate = zlib.decompressobj(_WBITS[encoding])

    def step(self) -> bool:
        """Do the next piece; gives whether it was the last. Raises Refusal, 413 as soon as the body is too large."""
        try:
            piece = self._inflate.decompress(self._rest, _PIECE_BYTES)
        except zlib.error as error:
            raise Refusal(400, f"the body is not {self._encoding}: {error}") from None
        self._rest = self._inflate.unconsumed_tail
        self.body += piece
        if len(self.body) > self._limit_bytes:
            raise Refusal(413, f"the body is larger than {self._limit_bytes} bytes when it is inflated")
        if not self._inflate.eof and not piece and not self._rest:
            raise Refusal(400, f"the body ends before its {self._encoding} does")
        if self._inflate.unused_data:
            raise Refusal(400, f"the body has something behind the end of its {self._encoding}")
        return self._inflate.eof

    def rest(self) -> bytearray:
        """Do all that is left."""
        while not self.step():
            pass
        return self.body


def is_worth(response: Response) -> bool:
    """Say whether an answer is of a kind and size that compressing makes sense for."""
    if len(response.body) < _COMPRESSED_FROM_BYTES and isinstance(response.body, bytes):
        return False
    if not response.content_type.startswith(_TEXTS) or response.status != 200:
        return False
    if any(name == b"content-encoding" for name, _ in response.headers):
        return False
    return _size(response) >= _COMPRESSED_FROM_BYTES


def compress(response: Response, encoding: str) -> Response:
    """Give the same answer with its body compressed."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WBITS[encoding])
    parts = [packer.compress(part) for part in _parts(response)]
    body = b"".join((*parts, packer.flush()))
    headers: tuple[Header, ...] = (
        *response.headers,
        (b"content-encoding", encoding.encode()),
        (b"vary", b"accept-encoding"),
    )
    return Response(response.status, body, response.content_type, headers, response.closes)


def _parts(response: Response) -> tuple[bytes | memoryview, ...]:
    return (response.body,) if isinstance(response.body, bytes) else tuple(response.body)


def _size(response: Response) -> int:
    return sum(memoryview(part).nbytes for part in _parts(response))
