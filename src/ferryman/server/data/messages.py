"""Requests and answers of the Open Inference Protocol V2 with its binary tensor extension, as values."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ferryman.core.errors import InputError
from ferryman.core.signature import Array, Signature
from ferryman.core.task import Answer
from ferryman.server.data.codec import (
    DATATYPES,
    check_shape,
    datatype_of,
    decode_binary,
    decode_json,
    dtype_of,
    encode_binary,
    encode_json,
    spell,
)

_LARGE_BYTES = 256_000
_PIECE = 10_000  # values


@dataclass(frozen=True, slots=True)
class TensorRequest:
    """Hold decoded inputs, the names of the outputs wanted (None: all), and which of them go out as bytes."""

    id: str | None
    inputs: dict[str, Array]
    outputs: tuple[str, ...] | None
    binary: frozenset[str]
    is_binary_by_default: bool

    def is_binary(self, output: str) -> bool:
        """Tell whether an output goes out as bytes."""
        return output in self.binary or (self.is_binary_by_default and self.outputs is None)


def parse_json(payload: bytes | memoryview) -> dict[str, Any]:  # from outside
    """Read a JSON object; NaN and Infinity are not JSON."""
    # A parser without hooks never lets another thread run, so that large requests in a thread would stop the loop, too.
    hooks: dict[str, Any] = {"parse_float": _to_float, "parse_int": _to_int} if len(payload) > _LARGE_BYTES else {}
    try:
        raw = json.loads(bytes(payload), parse_constant=_refuse_constant, **hooks)
    except RecursionError:
        raise InputError("the request is nested too deeply", hint="send flat data with a shape") from None
    except ValueError as error:
        raise InputError(f"the request is not valid JSON: {error}") from None
    if not isinstance(raw, dict):
        raise InputError("the request is not a JSON object", hint='{"inputs": [...]}, or {"rows": [...]}')
    return raw


def decode_tensors(raw: Mapping[str, Any], binary: memoryview) -> TensorRequest:  # from outside
    """Decode a V2 inference request; `binary` is what follows its JSON."""
    inputs: dict[str, Array] = {}
    start = 0
    for tensor in _objects(raw, "inputs"):
        name = _name_of(tensor, "inputs", inputs)
        shape = check_shape(name, tensor.get("shape"))
        dtype = dtype_of(name, tensor.get("datatype"))
        size = _parameters(tensor, name).get("binary_data_size")
        if size is None:
            inputs[name] = decode_json(name, dtype, shape, tensor.get("data"))
            continue
        if type(size) is not int or size < 0 or "data" in tensor or start + size > len(binary):
            raise InputError(
                f"input '{name}': binary_data_size {size!r:.40} with {len(binary) - start} bytes left after the JSON",
                hint="each tensor has either 'data' or its bytes, in the order of the inputs",
            )
        inputs[name] = decode_binary(name, dtype, shape, binary[start : start + size])
        start += size
    if start != len(binary):
        raise InputError(f"{len(binary) - start} bytes after the JSON belong to no input", hint="set binary_data_size")
    request_id = raw.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise InputError("'id' is not text")
    return _with_outputs(raw, request_id, inputs)


def decode_rows(raw: Mapping[str, Any]) -> list[dict[str, Any]]:  # from outside
    """Decode {"rows": [{column: cell}]}."""
    if "inputs" in raw:
        raise InputError("a request has either 'rows' or 'inputs'")
    rows = _objects(raw, "rows")
    for number, row in enumerate(rows, start=1):
        for column, cell in row.items():
            if isinstance(cell, list | dict):
                raise InputError(f"row {number}, column '{column}' holds no single value", hint="numbers, text or null")
    return rows


def encode_tensors(
    request: TensorRequest, outputs: Mapping[str, Array], *, name: str, version: str
) -> tuple[bytes, list[bytes]]:
    """Give the answer's JSON and the bytes that follow it."""
    tensors, blobs = [], []
    for output, array in outputs.items():
        tensor: dict[str, Any] = {"name": output, "datatype": datatype_of(array), "shape": list(array.shape)}  # JSON
        if request.is_binary(output):
            blob = encode_binary(array)
            tensors.append(to_json({**tensor, "parameters": {"binary_data_size": len(blob)}}))
            blobs.append(blob)
        else:
            tensors.append(b'%s,"data":[%s]}' % (to_json(tensor)[:-1], _list_in_pieces(encode_json(array))))
    head: dict[str, Any] = {"model_name": name, "model_version": version}  # JSON
    if request.id is not None:
        head["id"] = request.id
    return b'%s,"outputs":[%s]}' % (to_json(head)[:-1], b",".join(tensors)), blobs


def encode_answers(answers: list[Answer], *, name: str, version: str) -> bytes:
    """Give a task's answers; numbers that JSON can't say are spelled as text."""
    return to_json({"model_name": name, "model_version": version, "answers": answers})


def describe_tensors(signature: Signature) -> dict[str, list[dict[str, Any]]]:  # JSON
    """Give a model's inputs and outputs as V2 metadata; -1 is any size."""
    return {
        side: [
            {
                "name": spec.name,
                "datatype": DATATYPES.get(spec.dtype, spec.dtype.upper()),
                "shape": [size if isinstance(size, int) else -1 for size in spec.shape],
            }
            for spec in specs
        ]
        for side, specs in (("inputs", signature.inputs), ("outputs", signature.outputs))
    }


def to_json(value: Any) -> bytes:  # JSON, perhaps with NaN
    """Write JSON; spells numbers that are not finite."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        return json.dumps(_spelled(value), allow_nan=False, separators=(",", ":")).encode()


def _list_in_pieces(values: list[Any]) -> bytes:  # numbers, booleans or text
    """Write a list's JSON without its brackets, and let other threads run between its pieces."""
    starts = range(0, len(values), _PIECE)
    return b",".join(to_json(values[start : start + _PIECE])[1:-1] for start in starts)


def _spelled(value: Any) -> Any:  # JSON
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return spell(value)
    if isinstance(value, dict):
        return {key: _spelled(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(inner) for inner in value]
    return value


def _with_outputs(raw: Mapping[str, Any], request_id: str | None, inputs: dict[str, Array]) -> TensorRequest:
    parameters = _parameters(raw, "the request")
    is_binary_by_default = _flag(parameters, "binary_data_output")
    if raw.get("outputs") is None:
        return TensorRequest(request_id, inputs, None, frozenset(), is_binary_by_default)
    names: dict[str, bool] = {}
    for output in _objects(raw, "outputs"):
        name = _name_of(output, "outputs", names)
        wishes = _parameters(output, name)
        if wishes.get("classification"):
            raise InputError(f"output '{name}': classification is not offered", hint="ask for the tensor")
        names[name] = _flag(wishes, "binary_data") if "binary_data" in wishes else is_binary_by_default
    binary = frozenset(name for name, is_binary in names.items() if is_binary)
    return TensorRequest(request_id, inputs, tuple(names) or None, binary, is_binary_by_default)


def _objects(raw: Mapping[str, Any], key: str) -> list[dict[str, Any]]:  # from outside
    value = raw.get(key)
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise InputError(f"the request has no list '{key}' of objects", hint="see /docs")
    if not value and key != "outputs":
        raise InputError(f"'{key}' is empty", hint="see /docs")
    return value


def _name_of(entry: Mapping[str, Any], key: str, taken: Mapping[str, object]) -> str:  # from outside
    name = entry.get("name")
    if not isinstance(name, str):
        raise InputError(f"an entry of '{key}' has no name")
    if name in taken:
        raise InputError(f"'{name}' is twice in '{key}'")
    return name


def _parameters(entry: Mapping[str, Any], owner: str) -> dict[str, Any]:  # from outside
    parameters = entry.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InputError(f"{owner}: 'parameters' is not an object")
    return parameters


def _flag(parameters: Mapping[str, Any], key: str) -> bool:  # from outside
    flag = parameters.get(key, False)
    if not isinstance(flag, bool):
        raise InputError(f"'{key}' is neither true nor false")
    return flag


def _to_float(text: str) -> float:
    return float(text)


def _to_int(text: str) -> int:
    return int(text)


def _refuse_constant(name: str) -> float:
    raise ValueError(f'{name} is not JSON; send it as the text "{name}"')
