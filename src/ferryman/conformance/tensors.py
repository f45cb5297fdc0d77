"""The protocol's tensors: made from metadata, written as JSON and bytes, read back, compared.

Nothing of this is shared with ferryman's own server or client: a suite must not repeat what it checks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ferryman.conformance.broken import Broken, expect
from ferryman.core.signature import Array

DTYPES: dict[str, np.dtype[Any]] = {  # of any kind
    "BOOL": np.dtype(np.bool_),
    **{f"{sign}INT{bits}": np.dtype(f"{sign}int{bits}".lower()) for sign in ("", "U") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    "BF16": np.dtype(np.float32),  # numpy has none: the upper half of a float32
    "BYTES": np.dtype(object),
}
NOT_IN_JSON = ("FP16", "BF16")
_TOLERANCE = {"FP16": (1e-2, 1e-3), "BF16": (2e-2, 1e-2), "FP32": (1e-3, 1e-5), "FP64": (1e-3, 1e-5)}


@dataclass(frozen=True, slots=True)
class Tensor:
    """Hold one tensor with the protocol's name of its datatype; BYTES are bytes in an object array."""

    name: str
    datatype: str
    array: Array

    @property
    def shape(self) -> list[int]:
        """Give its shape as JSON has it."""
        return list(self.array.shape)

    def to_bytes(self) -> bytes:
        """Give the bytes of the binary extension: row-major, little-endian, texts behind their length."""
        if self.datatype == "BYTES":
            return b"".join(len(text).to_bytes(4, "little") + text for text in self.array.ravel().tolist())
        if self.datatype == "BF16":
            return (self.array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
        return self.array.astype(self.array.dtype.newbyteorder("<")).tobytes()

    def to_json(self, *, is_nested: bool = False) -> dict[str, Any]:  # JSON
        """Give the tensor's JSON, its values in one flat list or nested as its shape is."""
        array = self.array
        if self.datatype == "BYTES":
            array = np.array([text.decode() for text in array.ravel().tolist()], object).reshape(array.shape)
        return {**self.head(), "data": (array if is_nested else array.ravel()).tolist()}

    def head(self) -> dict[str, Any]:  # JSON
        """Give what the JSON says of the tensor beside its values."""
        return {"name": self.name, "shape": self.shape, "datatype": self.datatype}


def make_tensors(specs: Sequence[Mapping[str, Any]], *, free_size: int, seed: int = 7) -> list[Tensor]:  # metadata
    """Make inputs as the model's metadata describes them; sizes that it leaves free (-1) become `free_size`."""
    random = np.random.default_rng(seed)
    return [_make(spec, random, free_size) for spec in specs]


def _make(spec: Mapping[str, Any], random: np.random.Generator, free_size: int) -> Tensor:  # metadata
    datatype = str(spec["datatype"])
    expect(datatype in DTYPES, f"metadata names an unknown datatype: {datatype!r}")
    shape = [free_size if int(size) < 0 else int(size) for size in spec["shape"]]
    array: Array
    if datatype == "BYTES":
        texts = [str(number).encode() for number in random.integers(0, 2, math.prod(shape))]
        array = np.array(texts, object).reshape(shape)
    elif DTYPES[datatype].kind in "biu":
        array = random.integers(0, 2, shape).astype(
            DTYPES[datatype]
        )  # 0 and 1 are a class, a flag, a count of any model
    else:
        array = (random.integers(0, 65, shape) / 64).astype(DTYPES[datatype])  # exact in every float of the protocol
    return Tensor(str(spec["name"]), datatype, array)


def from_json(entry: Mapping[str, Any]) -> Tensor:  # from the server
    """Read an output whose values are in the JSON; raises Broken for what doesn't fit its own shape and datatype."""
    name, datatype, shape = _read_head(entry)
    values = list(_flatten(entry["data"])) if "data" in entry else None
    if values is None:
        raise Broken(f"output '{name}' has neither data nor binary_data_size")
    expect(len(values) == math.prod(shape), f"output '{name}' has {len(values)} values; its shape says {shape}")
    if datatype == "BYTES":
        texts = [value.encode() if isinstance(value, str) else value for value in values]
        expect(all(isinstance(text, bytes) for text in texts), f"output '{name}' is BYTES with data that is no text")
        return Tensor(name, datatype, np.array(texts, object).reshape(shape))
    try:
        return Tensor(name, datatype, np.array(values, DTYPES[datatype]).reshape(shape))
    except (ValueError, TypeError, OverflowError) as error:
        raise Broken(f"output '{name}' holds data that is no {datatype}: {error}") from None


def from_bytes(entry: Mapping[str, Any], payload: bytes) -> Tensor:  # from the server
    """Read an output whose values came as bytes; raises Broken where they don't fit its shape and datatype."""
    name, datatype, shape = _read_head(entry)
    if datatype == "BYTES":
        return Tensor(name, datatype, _read_texts(name, payload, math.prod(shape)).reshape(shape))
    width = 2 if datatype == "BF16" else DTYPES[datatype].itemsize
    wanted = math.prod(shape) * width
    expect(len(payload) == wanted, f"output '{name}' has {len(payload)} bytes; {datatype} {shape} takes {wanted}")
    if datatype == "BF16":
        array = (np.frombuffer(payload, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        array = np.frombuffer(payload, DTYPES[datatype].newbyteorder("<"))
    return Tensor(name, datatype, array.reshape(shape))


def compare(wanted: Mapping[str, Tensor], got: Mapping[str, Tensor], *, way: str) -> None:
    """Raise Broken unless both hold the same outputs, floats within a small tolerance."""
    expect(wanted.keys() == got.keys(), f"{way} gives outputs {sorted(got)}, not {sorted(wanted)}")
    for name, one in wanted.items():
        other = got[name]
        expect(one.shape == other.shape, f"{way}: output '{name}' has shape {other.shape}, not {one.shape}")
        if one.datatype not in _TOLERANCE:
            expect(bool(np.array_equal(one.array, other.array)), f"{way}: output '{name}' holds other values")
            continue
        relative, absolute = _TOLERANCE[one.datatype]
        first, second = one.array.astype(np.float64), other.array.astype(np.float64)
        is_close = np.allclose(first, second, rtol=relative, atol=absolute, equal_nan=True)
        worst = float(np.nanmax(np.abs(first - second), initial=0.0))
        expect(bool(is_close), f"{way}: output '{name}' is off by up to {worst:g}")


def _read_head(entry: Mapping[str, Any]) -> tuple[str, str, list[int]]:  # from the server
    name, datatype, shape = entry.get("name"), entry.get("datatype"), entry.get("shape")
    if not isinstance(name, str) or datatype not in DTYPES or not isinstance(shape, list):
        raise Broken(f"an output lacks name, datatype or shape: {str(dict(entry))[:120]}")
    expect(all(type(size) is int and size >= 0 for size in shape), f"output '{name}' has the shape {shape}")
    return name, str(datatype), shape


def _flatten(values: Any) -> list[Any]:  # JSON
    if not isinstance(values, list):
        return [values]
    return (
        [inner for value in values for inner in _flatten(value)] if any(isinstance(v, list) for v in values) else values
    )


def _read_texts(name: str, payload: bytes, count: int) -> Array:
    texts, start = [], 0
    while start < len(payload):
        end = start + 4 + int.from_bytes(payload[start : start + 4], "little")
        texts.append(payload[start + 4 : end])
        start = end
    expect(start == len(payload) and len(texts) == count, f"output '{name}': its texts don't fill its bytes")
    return np.array(texts, object)
