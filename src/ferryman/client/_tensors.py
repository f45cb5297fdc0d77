"""Tensors in the binary form of the Open Inference Protocol V2: numpy to bytes and back."""

import math
from typing import Any

import numpy as np

from ferryman.core.errors import FerrymanError, InputError
from ferryman.core.signature import Array

_DATATYPES = {
    "bool": "BOOL",
    **{f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
}
_DTYPES = {datatype: np.dtype(dtype).newbyteorder("<") for dtype, datatype in _DATATYPES.items()}


def dtype_of(datatype: str) -> str:
    """Give numpy's name of a V2 datatype, "string" for BYTES; raises KeyError for another."""
    return "string" if datatype == "BYTES" else _DTYPES[datatype].name


def encode_tensor(name: str, array: Array) -> tuple[dict[str, Any], bytes]:  # JSON
    """Give a tensor's entry in the request and the bytes that follow the JSON; raises InputError for other dtypes."""
    if array.dtype.kind in "OSU":
        texts = [value if isinstance(value, bytes) else str(value).encode() for value in array.flat]
        payload = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
        datatype = "BYTES"
    elif array.dtype.name in _DATATYPES:
        payload = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        datatype = _DATATYPES[array.dtype.name]
    else:
        raise InputError(f"input '{name}' has dtype {array.dtype}, which can't be sent", hint="convert it to float32")
    entry = {"name": name, "shape": list(array.shape), "datatype": datatype}
    return {**entry, "parameters": {"binary_data_size": len(payload)}}, payload


def decode_tensors(entries: list[dict[str, Any]], payload: bytes) -> dict[str, Array]:  # JSON
    """Give the outputs of an answer; `payload` is what follows its JSON."""
    outputs: dict[str, Array] = {}
    start = 0
    for entry in entries:
        size = (entry.get("parameters") or {}).get("binary_data_size")
        if size is None:
            outputs[entry["name"]] = _from_json(entry)
        else:
            outputs[entry["name"]] = _from_bytes(entry, payload[start : start + size])
            start += size
    return outputs


def _from_json(entry: dict[str, Any]) -> Array:  # JSON
    dtype = object if entry["datatype"] == "BYTES" else _DTYPES[entry["datatype"]]
    return np.array(entry["data"], dtype=dtype).reshape(entry["shape"])


def _from_bytes(entry: dict[str, Any], payload: bytes) -> Array:  # JSON
    if entry["datatype"] != "BYTES":
        return np.frombuffer(payload, _DTYPES[entry["datatype"]]).reshape(entry["shape"]).copy()
    texts = []
    start = 0
    for _ in range(math.prod(entry["shape"])):
        end = start + 4 + int.from_bytes(payload[start : start + 4], "little")
        if end > len(payload):
            raise FerrymanError(f"output '{entry['name']}' ends early", hint="the answer was cut on its way")
        texts.append(payload[start + 4 : end].decode())
        start = end
    return np.array(texts, dtype=object).reshape(entry["shape"])
