"""One tensor of the Open Inference Protocol V2, JSON or binary, to numpy and back.

Everything is checked before anything is allocated. JSON has no NaN: in answers, and in FP16/32/64 inputs, the three
strings "NaN", "Infinity" and "-Infinity" stand for what JSON can't say, as in protobuf's JSON mapping.
"""

import math
import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from ferryman.core.errors import InputError
from ferryman.core.signature import Array
from ferryman.server.data.wording import DATATYPES, count, show

BF16 = "BF16"  # numpy has no such dtype: its bytes become float32, which holds every one of its values
_DTYPES = {datatype: dtype for dtype, datatype in DATATYPES.items()}
_NUMPY = {
    datatype: np.dtype(object) if dtype == "string" else np.dtype(dtype).newbyteorder("<")
    for datatype, dtype in _DTYPES.items()
}
_NAMES = {dtype: datatype for datatype, dtype in _NUMPY.items()}
_FLOATS = {int, float}
_PACKED = {
    np.dtype("<f4"): "f",
    np.dtype("<f8"): "d",
}  # struct's letters: quicker than numpy for short lists, and as strict
_SHORT = 512  # values
_JSON_TYPES: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float, str}, "O": {str}}
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")
_JSON_WORDS = {
    "b": "send true or false",
    "i": "send whole numbers",
    "u": "send whole numbers of 0 or more",
    "f": 'send numbers, or "NaN", "Infinity", "-Infinity"',
    "O": "send text",
}
_MAX_DIMENSIONS = 32
_MAX_SIZE = 2**31 - 1


def check_shape(name: str, raw: Any) -> tuple[int, ...]:  # from outside
    """Give a shape, or raise InputError unless it is a list of sizes that an array can have."""
    is_shape = isinstance(raw, list) and len(raw) <= _MAX_DIMENSIONS
    for size in raw if is_shape else ():
        if type(size) is not int or not 0 <= size <= _MAX_SIZE:
            is_shape = False
    if not is_shape:
        raise InputError(
            f"input '{name}' has no 'shape'" if raw is None else f"input '{name}': {show(raw)} is not a shape",
            hint=f"a list of at most {_MAX_DIMENSIONS} sizes of 0 or more, as [1, 3]",
        )
    return tuple(raw)


def check_count(name: str, shape: tuple[int, ...], values: int) -> None:
    """Raise InputError where a shape takes more or fewer values than there are."""
    wanted = math.prod(shape)
    if values != wanted:
        raise InputError(
            f"input '{name}': {count(values, 'value')} can't have shape {list(shape)}",
            hint=f"that takes {count(wanted, 'value')}",
        )


def dtype_of(name: str, datatype: Any) -> np.dtype[Any]:  # from outside; any dtype
    """Give the numpy dtype (little-endian; object for BYTES) of a V2 datatype."""
    dtype = _NUMPY.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        if datatype == BF16:
            raise InputError(f"input '{name}': BF16 can't be sent as JSON", hint="send its bytes, or FP32")
        wrong = "has no 'datatype'" if not datatype else f"has the unknown datatype {show(datatype)}"
        raise InputError(f"input '{name}' {wrong}", hint=f"one of {', '.join(_DTYPES)}")
    return dtype


def decode_json(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], raw: Any) -> Array:  # from outside
    """Give a tensor from nested or flat JSON."""
    if type(raw) is np.ndarray:
        return _decode_numbers(name, dtype, shape, raw)
    values = _flatten(name, shape, raw)
    types = set(map(type, values))
    if types <= _FLOATS and len(values) <= _SHORT and dtype in _PACKED:
        return pack_numbers(name, dtype, shape, values)
    return _decode_values(name, dtype, shape, values, types)


def pack_numbers(
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    values: Sequence[float],  # float32 or float64
) -> Array:
    """Give a tensor of float32 or float64 from as many Python numbers as its shape takes."""
    try:
        packed = struct.pack(f"<{len(values)}{_PACKED[dtype]}", *values)
    except (OverflowError, struct.error) as error:
        raise misfit(name, dtype, values) from error
    try:
        return np.ndarray(shape, dtype, packed)
    except ValueError:  # an empty array whose other sizes are absurd
        raise InputError(f"input '{name}': {list(shape)} is too large a shape") from None


def _decode_values(
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    values: Sequence[Any],
    types: set[type],  # from outside
) -> Array:
    if wrong := types - _JSON_TYPES[dtype.kind]:
        raise InputError(
            f"input '{name}' holds {_json_name(wrong.pop())}, which is no {_datatype_of(dtype)}",
            hint=_JSON_WORDS[dtype.kind],
        )
    if dtype.kind == "O":
        return _reshape(name, np.array(values, dtype=object), shape)
    if str in types and (bad := {value for value in values if type(value) is str} - set(_NOT_FINITE)):
        raise InputError(f"input '{name}': {show(min(bad))} is not a number", hint=_JSON_WORDS["f"])
    try:
        with np.errstate(over="raise"):
            array = np.array(values, dtype=dtype)
    except (OverflowError, FloatingPointError, ValueError) as error:
        raise misfit(name, dtype, values) from error
    if dtype.kind == "f" and str not in types and not np.isfinite(array).all():
        raise misfit(name, dtype, values)
    return _reshape(name, array, shape)


def _decode_numbers(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], values: Array) -> Array:
    """Give a tensor from numbers that the JSON parser laid down flat: float64, int64 or uint64."""
    check_count(name, shape, len(values))
    with np.errstate(over="ignore"):
        array = values.astype(dtype)
    fits = np.isfinite(array).all() if dtype.kind == "f" else np.array_equal(array, values)
    if not fits:
        raise misfit(name, dtype, values.tolist())
    return _reshape(name, array, shape)


def misfit(name: str, dtype: np.dtype[Any], values: Sequence[Any]) -> InputError:  # of an input; numbers and texts
    """Name the first value that a datatype can't hold."""
    if dtype.kind == "f":
        limit = float(np.finfo(dtype).max)
        limits, bounds = (-limit, limit), f"{-limit:.4g} to {limit:.4g}"
    else:
        whole = np.iinfo(dtype)
        limits, bounds = (whole.min, whole.max), f"{whole.min} to {whole.max}"
    wrong = (value for value in values if not isinstance(value, str) and not limits[0] <= value <= limits[1])
    found = show(next(wrong, "a value"))
    return InputError(f"input '{name}': {found} does not fit {_datatype_of(dtype)}", hint=f"it holds {bounds}")


def decode_binary(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], payload: memoryview) -> Array:
    """Give a tensor from the bytes of the binary extension, without copying where the bytes are aligned."""
    size = math.prod(shape)
    if dtype.kind == "O":
        return _reshape(name, np.array(_split_texts(name, payload, size), dtype=object), shape)
    if size * dtype.itemsize != len(payload):
        raise InputError(
            f"input '{name}': {count(len(payload), 'byte')} can't be {_datatype_of(dtype)} {list(shape)}",
            hint=f"that takes {count(size * dtype.itemsize, 'byte')}",
        )
    if dtype.kind == "b" and len(payload) and np.frombuffer(payload, np.uint8).max() > 1:
        raise InputError(f"input '{name}': a BOOL byte is neither 0 nor 1")
    array = _reshape(name, np.frombuffer(payload, dtype), shape)
    return array if array.flags.aligned else array.copy()


def decode_bfloat16(name: str, shape: tuple[int, ...], payload: memoryview) -> Array:
    """Give a BF16 tensor's bytes as float32, which holds every one of its values exactly."""
    size = math.prod(shape)
    if size * 2 != len(payload):
        raise InputError(
            f"input '{name}': {count(len(payload), 'byte')} can't be BF16 {list(shape)}",
            hint=f"that takes {count(size * 2, 'byte')}",
        )
    halves = np.frombuffer(payload, "<u2").astype("<u4") << 16
    return _reshape(name, halves.view("<f4"), shape)


def encode_json(array: Array) -> list[Any]:  # numbers, booleans or text
    """Give a tensor as a flat JSON list."""
    if array.dtype.kind in "OSU":
        return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in array.flat]
    values: list[Any] = array.ravel().tolist()  # numbers or booleans
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return [value if math.isfinite(value) else spell(value) for value in values]
    return values


def encode_binary(array: Array) -> bytes:
    """Give a tensor as the bytes of the binary extension."""
    if array.dtype.kind in "OSU":
        texts = (value if isinstance(value, bytes) else str(value).encode() for value in array.flat)
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def datatype_of(array: Array) -> str:
    """Give the V2 datatype of an array."""
    return _NAMES.get(array.dtype) or ("BYTES" if array.dtype.kind in "OSU" else DATATYPES[array.dtype.name])


def spell(value: float) -> str:
    """Spell a number that JSON can't say."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _flatten(name: str, shape: tuple[int, ...], raw: Any) -> Sequence[Any]:  # from outside
    if not isinstance(raw, list):
        found = "has no 'data'" if raw is None else f"has {show(raw)} as 'data', which is no list"
        raise InputError(f"input '{name}' {found}", hint="a list of values, nested or flat, row by row")
    values: list[Any] = raw  # from outside
    if raw and type(raw[0]) is list:
        if len(raw) != (shape[0] if shape else 0):
            raise InputError(
                f"input '{name}': nested data with {count(len(raw), 'row')} can't have shape {list(shape)}"
            )
        for size in shape[1:]:
            if any(type(row) is not list or len(row) != size for row in values):
                raise InputError(
                    f"input '{name}': nested data is not of shape {list(shape)} all through",
                    hint="each list must be as long as the shape says",
                )
            values = list(chain.from_iterable(values))
    check_count(name, shape, len(values))
    return values


def _reshape(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    try:
        return array.reshape(shape)
    except ValueError:  # an empty array whose other sizes are absurd
        raise InputError(f"input '{name}': {list(shape)} is too large a shape") from None


def _split_texts(name: str, payload: memoryview, wanted: int) -> list[str]:
    """Read texts that each follow their length, a little-endian uint32."""
    texts: list[str] = []
    start = 0
    while start < len(payload):
        size = int.from_bytes(payload[start : start + 4], "little")
        end = start + 4 + size
        if end > len(payload) or len(texts) == wanted:
            raise InputError(
                f"input '{name}': the lengths before its texts don't add up to {count(len(payload), 'byte')} and "
                f"{count(wanted, 'text')}",
                hint="each text follows its length, a little-endian uint32",
            )
        try:
            texts.append(str(payload[start + 4 : end], "utf-8"))
        except UnicodeDecodeError as error:
            raise InputError(f"input '{name}': text {len(texts)} is not UTF-8: {error.reason}") from None
        start = end
    if len(texts) != wanted:
        raise InputError(f"input '{name}' has {count(len(texts), 'text')}; its shape takes {wanted}")
    return texts


def _datatype_of(dtype: np.dtype[Any]) -> str:  # any dtype
    return "BYTES" if dtype.kind == "O" else DATATYPES[dtype.name]


def _json_name(kind: type) -> str:
    names = {str: "text", bool: "a boolean", list: "a list", dict: "an object", type(None): "null", float: "a fraction"}
    return names.get(kind, "a number")
