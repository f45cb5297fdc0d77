"""Undo a message's compression without trusting it."""

import zlib

from ferryman.core.errors import InputError, TooLarge

ENCODINGS = (b"identity", b"gzip")
_GZIP = 16 + zlib.MAX_WBITS
_PIECE = 256 * 1024


def inflate(payload: bytes | bytearray | memoryview, limit_bytes: int) -> bytearray:
    """Give a gzip message's bytes; raises TooLarge as soon as they are more than `limit_bytes`, and InputError."""
    inflated = bytearray()
    decompressor = zlib.decompressobj(_GZIP)
    rest: bytes | bytearray | memoryview = payload
    try:
        while not decompressor.eof:
            piece = decompressor.decompress(rest, _PIECE)
            inflated += piece
            if len(inflated) > limit_bytes:
                raise TooLarge(f"the message is larger than {limit_bytes} bytes once it is unpacked", hint="send less")
            rest = decompressor.unconsumed_tail
            if not rest and not piece and not decompressor.eof:
                raise InputError("the message's gzip data end too early")
    except zlib.error as error:
        raise InputError(f"the message is not valid gzip: {error}") from None
    if decompressor.unused_data:
        raise InputError("bytes follow the message's gzip data")
    return inflated
