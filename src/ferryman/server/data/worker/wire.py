"""What crosses a worker's socket: frames of a header, JSON and bytes; no pickle.

A frame is 16 bytes of header, then JSON (padded with spaces), then a payload (padded with zeros). Both paddings keep
every payload at a multiple of 16 bytes, so that arrays can be read where they lie.
"""

import json
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import orjson

from ferryman.core import errors
from ferryman.core.errors import FerrymanError

HEADER = struct.Struct("<HxxIII")
ALIGNMENT = 16
MOST_META_BYTES = 256 * 1024 * 1024
_NUMPY = orjson.OPT_SERIALIZE_NUMPY

LOAD, LOADED, FAILED, RUN, DONE, RELEASE, NOTED = range(1, 8)
"""Kinds of frames: LOAD, RUN and RELEASE go to the worker; LOADED, FAILED, DONE, and NOTED of a look, come back."""


class Frame(NamedTuple):
    """Hold one frame as received; `number` is the job's, or the block's that may be used again."""

    kind: int
    number: int
    meta: bytes
    payload: memoryview


def padded(size: int) -> int:
    """Give the next multiple of the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def encode_frame(kind: int, number: int, meta: bytes = b"", payload_bytes: int = 0) -> bytes:
    """Give header and JSON of a frame; `payload_bytes` (a multiple of 16) have to follow them."""
    size = padded(len(meta))
    return HEADER.pack(kind, size, payload_bytes, number) + meta.ljust(size)


class FrameReader:
    """Cut frames out of what a stream brings, without copying those that come whole."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._wanted = HEADER.size

    def feed(self, received: bytes) -> Iterator[Frame]:
        """Give the frames that are whole now; raises ValueError for what no worker would send."""
        whole: bytes = received
        if self._rest:
            self._rest += received
            if len(self._rest) < self._wanted:
                return
            whole = bytes(self._rest)
            self._rest = bytearray()
        start, length = 0, len(whole)
        view = memoryview(whole)
        while True:
            self._wanted = HEADER.size
            if length - start < HEADER.size:
                break
            kind, meta_bytes, payload_bytes, number = HEADER.unpack_from(whole, start)
            if not LOAD <= kind <= NOTED or meta_bytes > MOST_META_BYTES:
                raise ValueError(f"a frame of kind {kind} with {meta_bytes} bytes of JSON")
            middle = start + HEADER.size + meta_bytes
            end = middle + payload_bytes
            if end > length:
                self._wanted = end - start
                break
            yield Frame(kind, number, whole[start + HEADER.size : middle], view[middle:end])
            start = end
        if start < length:
            self._rest = bytearray(view[start:])


def encode_json(value: Any) -> bytes:  # JSON values, numpy's among them
    """Give JSON that `decode_json` turns into the same value, NaN, infinities and long integers, too."""
    try:
        text = orjson.dumps(value, option=_NUMPY)
    except TypeError:  # an integer of more than 64 bits, half a surrogate pair, a key that is no text
        return b"!" + json.dumps(value, default=_plain).encode()
    # The quick encoder writes null for what is not finite, so a null may hide a number.
    return b"!" + json.dumps(value, default=_plain).encode() if b"null" in text else text


def decode_json(text: bytes) -> Any:  # JSON
    """Give the value back."""
    return json.loads(text[1:]) if text[:1] == b"!" else orjson.loads(text)


def _plain(value: Any) -> Any:  # a numpy scalar or array
    to_list: Callable[[], Any] | None = getattr(value, "tolist", None)
    if to_list is None:
        raise TypeError(f"a {type(value).__name__} is no JSON value")
    return to_list()


_KINDS: dict[str, type[FerrymanError]] = {
    kind.__name__: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FerrymanError)
}


def encode_error(error: BaseException) -> list[str]:
    """Give an error as kind, message and hint; one that is none of ours has no kind."""
    if isinstance(error, FerrymanError):
        known = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _KINDS)
        return [known, str(error), error.hint]
    return ["", f"the model failed with {type(error).__name__}: {error}"[:2000], ""]


def decode_error(parts: list[str]) -> FerrymanError:
    """Give the error back; what was none of ours is a plain FerrymanError, which no caller gets to see."""
    kind, message, hint = parts
    return _KINDS.get(kind, FerrymanError)(message, hint=hint)
