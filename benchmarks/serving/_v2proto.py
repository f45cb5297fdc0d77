"""The two messages of the Open Inference Protocol's gRPC that are needed here, written and read by hand."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

METHOD = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True, slots=True)
class Field:
    """Hold one field: bytes where it has a length, else a number."""

    number: int
    value: bytes | int


def encode_infer(model: str, tensor: str, values: NDArray[np.float32]) -> bytes:
    """Ask a model about one FP32 tensor, its values raw."""
    shape = b"".join(_varint(size) for size in values.shape)
    described = _bytes(1, tensor.encode()) + _bytes(2, b"FP32") + _bytes(3, shape)
    return _bytes(1, model.encode()) + _bytes(5, described) + _bytes(7, values.tobytes())


def decode_answer(message: bytes) -> NDArray[np.float32]:
    """Give the values of the one FP32 tensor that was answered, whichever way they are carried."""
    fields = list(fields_of(message))
    raw = [field.value for field in fields if field.number == 6 and isinstance(field.value, bytes)]
    if raw:
        return np.frombuffer(raw[0], np.float32)
    outputs = [field.value for field in fields if field.number == 5 and isinstance(field.value, bytes)]
    contents = [inner.value for inner in fields_of(outputs[0]) if inner.number == 5 and isinstance(inner.value, bytes)]
    floats = [inner.value for inner in fields_of(contents[0]) if inner.number == 6 and isinstance(inner.value, bytes)]
    return np.frombuffer(b"".join(floats), np.float32)


def framed(message: bytes) -> bytes:
    """Put gRPC's prefix before a message: not compressed, its length."""
    return struct.pack(">BI", 0, len(message)) + message


def fields_of(message: bytes) -> Iterator[Field]:
    """Give each field of a message; groups are not known here."""
    place = 0
    while place < len(message):
        key, place = _read_varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _read_varint(message, place)
            yield Field(number, value)
            continue
        length = {1: 8, 5: 4}.get(kind)
        if length is None:
            length, place = _read_varint(message, place)
        yield Field(number, message[place : place + length])
        place += length


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _read_varint(message: Sequence[int], place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
