"""Protobuf's bytes where copying matters: large tensors go in and out as they lie."""

from typing import Final

from ferryman.core.errors import InputError
from ferryman.server.data.grpc.outbox import Part

_VARINT, _FIXED64, _SIZED, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT: Final = 10


def sized_field(number: int, size: int) -> bytes:
    """Give what goes before the bytes of a field."""
    return varint(number << 3 | _SIZED) + varint(size)


def varint(value: int) -> bytes:
    """Give a number of 0 or more as protobuf writes it."""
    if value < 128:
        return bytes((value,))
    parts = bytearray()
    while value >= 128:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def split_field(message: Part, number: int) -> tuple[bytes, list[memoryview]]:
    """Take a field's byte strings out of a message: give the message without them, and them; raises InputError."""
    view = memoryview(message)
    taken: list[memoryview] = []
    kept = bytearray()
    position, end = 0, len(view)
    while position < end:
        start = position
        key, position = _read_varint(view, position)
        kind = key & 7
        if kind == _SIZED:
            size, position = _read_varint(view, position)
        elif kind == _VARINT:
            size = _read_varint(view, position)[1] - position
        else:
            size = {_FIXED64: 8, _FIXED32: 4}.get(kind, end)
        if size > end - position:
            raise InputError("the message is not valid protobuf")
        if kind == _SIZED and key >> 3 == number:
            taken.append(view[position : position + size])
        else:
            kept += view[start : position + size]
        position += size
    return bytes(kept), taken


def _read_varint(view: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(view[position : position + _LONGEST_VARINT]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, position + index + 1
    raise InputError("the message is not valid protobuf")
