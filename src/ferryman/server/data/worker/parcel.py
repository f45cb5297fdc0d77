"""Lay arrays and bytes into one payload, and read them where they lie."""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from ferryman.core.errors import InputError
from ferryman.core.signature import Array
from ferryman.server.data.worker.wire import padded

_PLAIN = frozenset("biufc")
Place = list[Any]
"""Where an array lies and what it is, as JSON: [dtype, shape, offset, size in bytes]."""


class Parcel:
    """Collect what a message carries; `write_to` puts it all into one buffer at the end."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._parts: list[tuple[int, Array | Sequence[Array] | bytes, int]] = []

    def add_bytes(self, content: bytes | bytearray | memoryview) -> list[int]:
        """Take bytes as they are; give their offset and size."""
        return [self._take(bytes(content), len(content)), len(content)]

    def add(self, array: Array) -> Place:
        """Take one array; raises InputError for one that is no plain tensor."""
        return self.add_rows([array])

    def add_rows(self, arrays: Sequence[Array]) -> Place:
        """Take arrays as one: joined along the first dimension where there are several."""
        first = arrays[0]
        if first.dtype.kind not in _PLAIN:
            return self._add_text(first if len(arrays) == 1 else np.concatenate(arrays))
        if not first.dtype.isnative:
            arrays = [array.astype(array.dtype.newbyteorder("=")) for array in arrays]
            first = arrays[0]
        if len(arrays) == 1:
            shape = list(first.shape)
            size = first.nbytes
            offset = self._take(first, size)
        else:
            rows = sum([array.shape[0] for array in arrays])
            shape = [rows, *first.shape[1:]]
            size = first.dtype.itemsize
            for length in shape:
                size *= length
            offset = self._take(arrays, size)
        return [first.dtype.str, shape, offset, size]

    def write_to(self, buffer: memoryview) -> None:
        """Put everything into a buffer of at least `size_bytes`."""
        for offset, part, size in self._parts:
            if isinstance(part, bytes):
                buffer[offset : offset + size] = part
            elif isinstance(part, np.ndarray):
                target = np.frombuffer(buffer, part.dtype, part.size, offset).reshape(part.shape)
                target[...] = part
            else:
                shape = (-1, *part[0].shape[1:])
                count = size // part[0].dtype.itemsize
                target = np.frombuffer(buffer, part[0].dtype, count, offset).reshape(shape)
                np.concatenate(part, out=target, casting="no")

    def _take(self, part: Array | Sequence[Array] | bytes, size: int) -> int:
        offset = self.size_bytes
        if size:
            self._parts.append((offset, part, size))
        self.size_bytes = padded(offset + size)
        return offset

    def _add_text(self, array: Array) -> Place:
        if array.dtype.kind not in "OUS":
            raise InputError(f"an array of {array.dtype} is no tensor", hint="send numbers, booleans or text")
        cells = array.ravel().tolist()
        is_bytes = any(isinstance(cell, bytes) for cell in cells)
        encoded = [cell if isinstance(cell, bytes) else str(cell).encode("utf-8", "surrogatepass") for cell in cells]
        blob = struct.pack(f"<{len(encoded)}Q", *map(len, encoded)) + b"".join(encoded)
        return ["bytes" if is_bytes else "string", list(array.shape), self._take(blob, len(blob)), len(blob)]


def read_array(place: Place, buffer: memoryview) -> Array:
    """Give an array: numbers are a view of the buffer, text is a copy; raises ValueError for a place outside of it."""
    dtype, shape, offset, size = place
    if dtype in ("string", "bytes"):
        return _read_text(buffer[offset : offset + size], shape, is_bytes=dtype == "bytes")
    if not size:
        return np.zeros(shape, dtype)
    kind = np.dtype(dtype)
    return np.frombuffer(buffer, kind, size // kind.itemsize, offset).reshape(shape)


def _read_text(blob: memoryview, shape: Sequence[int], *, is_bytes: bool) -> Array:
    count = 1
    for length in shape:
        count *= length
    sizes = struct.unpack_from(f"<{count}Q", blob)
    content = bytes(blob[8 * count :])
    cells = np.empty(count, object)
    start = 0
    for place, size in enumerate(sizes):
        cell = content[start : start + size]
        cells[place] = cell if is_bytes else cell.decode("utf-8", "surrogatepass")
        start += size
    return cells.reshape(shape)
