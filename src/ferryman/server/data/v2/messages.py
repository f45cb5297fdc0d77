"""Requests and answers of the Open Inference Protocol V2 with its binary tensor extension, as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import Any

import numpy as np
import orjson

from ferryman.core.errors import InputError
from ferryman.core.signature import Array, Signature
from ferryman.core.task import Answer, Item
from ferryman.server.data.ask import Priority
from ferryman.server.data.v2.codec import (
    BF16,
    check_shape,
    datatype_of,
    decode_bfloat16,
    decode_binary,
    decode_json,
    dtype_of,
    encode_binary,
    encode_json,
    spell,
)
from ferryman.server.data.wording import DATATYPES, count, listed, show

_OBJECT = {dict}
_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")
_PIECE = 16384  # values
_LONGEST_TIMEOUT_US = 3_600_000_000
_FORMS = {
    "inputs": 'send {"inputs": [{"name": NAME, "datatype": DATATYPE, "shape": [SIZES], "data": [VALUES]}]}; '
    "/docs shows it",
    "outputs": 'send {"outputs": [{"name": NAME}]}',
    "rows": 'send {"rows": [{COLUMN: VALUE, ...}, ...]}; /docs shows it',
}


@dataclass(slots=True, eq=False)
class TensorRequest:
    """Hold decoded inputs, the names of the outputs wanted (None: all), and which of them go out as bytes.

    `timeout_s` is infinite where the caller sets none.
    """

    id: str | None
    inputs: dict[str, Array]
    outputs: tuple[str, ...] | None
    binary: frozenset[str]
    is_binary_by_default: bool
    timeout_s: float
    priority: Priority

    def is_binary(self, output: str) -> bool:
        """Tell whether an output goes out as bytes."""
        return output in self.binary or (self.is_binary_by_default and self.outputs is None)


@dataclass(slots=True, eq=False)
class ItemsRequest:
    """Hold what a task is asked about, in its own words."""

    items: list[Item]
    id: str | None = None
    timeout_s: float = inf
    priority: Priority = Priority.NORMAL


def decode_tensors(raw: Mapping[str, Any], binary: memoryview) -> TensorRequest:  # from outside
    """Decode a V2 inference request; `binary` is what follows its JSON."""
    inputs: dict[str, Array] = {}
    start = 0
    for tensor in _objects(raw, "inputs"):
        name = _name_of(tensor, "inputs", inputs)
        shape = check_shape(name, tensor.get("shape"))
        parameters = tensor.get("parameters")
        size = None if parameters is None else _parameters(tensor, name).get("binary_data_size")
        if size is None:
            inputs[name] = decode_json(name, dtype_of(name, tensor.get("datatype")), shape, tensor.get("data"))
            continue
        if type(size) is not int or size < 0 or "data" in tensor or start + size > len(binary):
            raise InputError(
                f"input '{name}': binary_data_size is {show(size)}, and {count(len(binary) - start, 'byte')} are left "
                "after the JSON",
                hint="each tensor has either 'data' or its bytes, in the order of the inputs",
            )
        inputs[name] = decode_bytes(name, tensor.get("datatype"), shape, binary[start : start + size])
        start += size
    if start != len(binary):
        raise InputError(
            f"{count(len(binary) - start, 'byte')} after the JSON belong to no input",
            hint="each input's parameters say its part of them, as binary_data_size",
        )
    return _with_outputs(raw, id_of(raw), inputs)


def id_of(raw: Mapping[str, Any]) -> str | None:  # from outside
    """Give the caller's own name for its request."""
    request_id = raw.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise InputError("'id' is not text", hint='give it in quotes, as "id": "17"')
    return request_id


def decode_bytes(name: str, datatype: Any, shape: tuple[int, ...], payload: memoryview) -> Array:  # from outside
    """Decode one tensor's bytes; BF16 becomes float32."""
    if datatype == BF16:
        return decode_bfloat16(name, shape, payload)
    return decode_binary(name, dtype_of(name, datatype), shape, payload)


def decode_rows(raw: Mapping[str, Any]) -> list[dict[str, Any]]:  # from outside
    """Decode {"rows": [{column: cell}]}."""
    if "inputs" in raw:
        raise InputError("the request has both 'rows' and 'inputs'", hint="send one of them")
    rows = _objects(raw, "rows")
    for number, row in enumerate(rows, start=1):
        for column, cell in row.items():
            if isinstance(cell, list | dict):
                raise InputError(f"row {number}, column '{column}' holds no single value", hint="numbers or text")
    return rows


def encode_tensors(
    request: TensorRequest, outputs: Mapping[str, Array], *, name: str, version: str, is_finite: bool = False
) -> tuple[bytes, list[bytes]]:
    """Give the answer's JSON and the bytes that follow it; `is_finite` spares the search for NaN and infinities."""
    tensors: list[bytes] = []
    blobs: list[bytes] = []
    for output, array in outputs.items():
        head = tensor_head(output, datatype_of(array), array.shape)
        if request.is_binary(output):
            blob = encode_binary(array)
            tensors.append(head + b'"parameters":{"binary_data_size":%d}}' % len(blob))
            blobs.append(blob)
        else:
            tensors.append(head + b'"data":%s}' % _data_of(array, is_finite))
    answer = b'%s"outputs":[%s]}' % (answer_head(name, version, request.id), b",".join(tensors))
    return answer, blobs


@lru_cache(maxsize=1024)
def tensor_head(name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    """Begin a tensor; its data follows."""
    return b'{"name":%s,"datatype":"%s","shape":%s,' % (orjson.dumps(name), datatype.encode(), orjson.dumps(shape))


def answer_head(name: str, version: str, request_id: str | None) -> bytes:
    """Begin an answer; what was asked for follows."""
    head = _named(name, version)
    return head if request_id is None else b'%s"id":%s,' % (head, orjson.dumps(request_id))


@lru_cache(maxsize=256)
def _named(name: str, version: str) -> bytes:
    return b'{"model_name":%s,"model_version":%s,' % (orjson.dumps(name), orjson.dumps(version))


def encode_answers(answers: Sequence[Answer], request_id: str | None, *, name: str, version: str) -> bytes:
    """Give a task's answers; numbers that JSON can't say are spelled as text."""
    text = getattr(answers, "text", None)  # a worker's answers are JSON already
    listed = text if text is not None else to_json(list(answers))
    return b'%s"answers":%s}' % (answer_head(name, version, request_id), listed)


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
    return orjson.dumps(_spelled(value))


def _data_of(array: Array, is_finite: bool) -> bytes:
    """Write a tensor's values as one flat JSON list."""
    is_float = array.dtype.kind == "f"
    if array.dtype.kind in "OSU" or (is_float and not is_finite and not np.isfinite(array).all()):
        return orjson.dumps(encode_json(array))
    values = array.ravel()  # of a whole array: no copy
    if len(values) <= _PIECE:
        return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)
    # In pieces, so that other threads get their turn between them.
    starts = range(0, len(values), _PIECE)
    pieces = [orjson.dumps(values[at : at + _PIECE], option=orjson.OPT_SERIALIZE_NUMPY)[1:-1] for at in starts]
    return b"[%s]" % b",".join(pieces)


def _spelled(value: Any) -> Any:  # JSON
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return spell(value)
    if isinstance(value, dict):
        return {key: _spelled(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(inner) for inner in value]
    return value


def _with_outputs(raw: Mapping[str, Any], request_id: str | None, inputs: dict[str, Array]) -> TensorRequest:
    if "parameters" not in raw and raw.get("outputs") is None:
        return TensorRequest(request_id, inputs, None, frozenset(), False, inf, Priority.NORMAL)
    parameters = _parameters(raw, "the request")
    refuse_sequence(parameters)
    is_binary_by_default = _flag(parameters, "binary_data_output")
    timeout_s, priority = timeout_of(parameters), priority_of(parameters)
    if raw.get("outputs") is None:
        return TensorRequest(request_id, inputs, None, frozenset(), is_binary_by_default, timeout_s, priority)
    names: dict[str, bool] = {}
    for output in _objects(raw, "outputs"):
        name = _name_of(output, "outputs", names)
        wishes = _parameters(output, name)
        if wishes.get("classification"):
            raise InputError(f"output '{name}': classification is not offered", hint="ask for the tensor")
        names[name] = _flag(wishes, "binary_data") if "binary_data" in wishes else is_binary_by_default
    binary = frozenset(name for name, is_binary in names.items() if is_binary)
    wanted = tuple(names) or None
    return TensorRequest(request_id, inputs, wanted, binary, is_binary_by_default, timeout_s, priority)


def refuse_sequence(parameters: Mapping[str, Any]) -> None:  # from outside
    """Raise InputError for a request of a sequence; 0, "" and false, which some clients always send, mean none."""
    for key in _SEQUENCE:
        if parameters.get(key):
            raise InputError(
                f"parameter '{key}' is {show(parameters[key])}, and sequences of requests are not offered",
                hint="leave it out: each request is answered on its own",
            )


def timeout_of(parameters: Mapping[str, Any]) -> float:  # from outside
    """Give the seconds that a request's `timeout` parameter (microseconds) allows; infinite where it sets none."""
    timeout_us = parameters.get("timeout", 0)
    if type(timeout_us) is not int or not 0 <= timeout_us <= _LONGEST_TIMEOUT_US:
        raise InputError(
            f"parameter 'timeout' is {show(timeout_us)}",
            hint=f"give microseconds as a whole number up to {_LONGEST_TIMEOUT_US} (an hour)",
        )
    return timeout_us / 1e6 if timeout_us else inf


def priority_of(parameters: Mapping[str, Any]) -> Priority:  # from outside
    """Give the class of a request's `priority` parameter: 1 is high, 0 or none is normal, any more is low."""
    level = parameters.get("priority", 0)
    if type(level) is not int or level < 0:
        raise InputError(
            f"parameter 'priority' is {show(level)}", hint="give a whole number: 1 goes first, 0 is usual, 2 goes last"
        )
    return Priority.NORMAL if level == 0 else Priority.HIGH if level == 1 else Priority.LOW


def _objects(raw: Mapping[str, Any], key: str) -> list[dict[str, Any]]:  # from outside
    value = raw.get(key)
    if key not in raw:
        has = f" (it has {listed(raw)[:60]})" if raw else ""
        raise InputError(f"the request has no '{key}'{has}", hint=_FORMS[key])
    if not isinstance(value, list) or not set(map(type, value)) <= _OBJECT:
        raise InputError(f"'{key}' is no list of objects: {show(value)}", hint=_FORMS[key])
    if not value and key != "outputs":
        raise InputError(f"'{key}' is empty", hint=_FORMS[key])
    return value


def _name_of(entry: Mapping[str, Any], key: str, taken: Mapping[str, object]) -> str:  # from outside
    name = entry.get("name")
    if not isinstance(name, str):
        raise InputError(f"an entry of '{key}' has no 'name'", hint=_FORMS[key])
    if name in taken:
        raise InputError(f"'{name}' is twice in '{key}'", hint="give each name once")
    return name


def _parameters(entry: Mapping[str, Any], owner: str) -> dict[str, Any]:  # from outside
    parameters = entry.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InputError(f"{owner}: 'parameters' is {show(parameters)}", hint="it must be an object")
    return parameters


def _flag(parameters: Mapping[str, Any], key: str) -> bool:  # from outside
    flag = parameters.get(key, False)
    if not isinstance(flag, bool):
        raise InputError(f"'{key}' is {show(flag)}", hint="it must be true or false")
    return flag
