"""Requests as {"instances": [...]}, answers as {"predictions": [...]}, and rows as CSV: what clouds' callers send."""

import binascii
import csv
import io
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from ferryman.core.errors import InputError
from ferryman.core.signature import Array
from ferryman.core.task import Item
from ferryman.server.data.ask import Reply
from ferryman.server.data.models import Served
from ferryman.server.data.v2.codec import decode_json, dtype_of, encode_json
from ferryman.server.data.v2.examples import example_row
from ferryman.server.data.v2.messages import (
    ItemsRequest,
    TensorRequest,
    decode_rows,
    describe_tensors,
    id_of,
    priority_of,
    refuse_sequence,
    timeout_of,
    to_json,
)
from ferryman.server.data.v2.texts import text_columns
from ferryman.server.data.wording import show

_MOST_DIMENSIONS = 32
_FORMS = {
    "picture": '{"b64": "..."}, the base64 of a picture\'s file',
    "row": "{COLUMN: VALUE, ...}, or a list of values in the columns' order",
    "tensors": "the values of the model's input without its batch, or {INPUT: VALUES, ...}",
}


@dataclass(slots=True, eq=False)
class ItemInstances(ItemsRequest):
    """Be items that came as instances: their answers go out as predictions."""


@dataclass(slots=True, eq=False)
class TensorInstances(TensorRequest):
    """Be tensors that came as instances, one row each."""


def decode_instances(raw: Mapping[str, Any], served: Served) -> ItemInstances | TensorInstances:  # from outside
    """Decode {"instances": [...], "parameters": {...}}; raises InputError that names the instance."""
    instances = raw["instances"]
    form = f'send {{"instances": [...]}}, each {_FORMS[served.loaded.takes]}'
    if not isinstance(instances, list) or not instances:
        raise InputError(f"'instances' is {show(instances)}", hint=form)
    parameters = raw.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InputError(f"the request: 'parameters' is {show(parameters)}", hint="it must be an object")
    refuse_sequence(parameters)
    chosen = (timeout_of(parameters), priority_of(parameters))
    if served.loaded.takes == "picture" and any(isinstance(one, str | dict) for one in instances):
        pictures: list[Item] = [_picture(one, place, form) for place, one in enumerate(instances, start=1)]
        return ItemInstances(pictures, id_of(raw), *chosen)
    if served.loaded.takes == "row":
        rows = [_row(one, place, served, form) for place, one in enumerate(instances, start=1)]
        return ItemInstances([*decode_rows({"rows": rows})], id_of(raw), *chosen)
    return TensorInstances(id_of(raw), _tensors(instances, served, form), None, frozenset(), False, *chosen)


def decode_csv(body: bytes | bytearray, served: Served) -> ItemInstances:
    """Decode rows as lines of values in the columns' order; a first line with the columns' names is none of them."""
    if served.loaded.takes != "row":
        raise InputError(f"model '{served.name}' doesn't take rows", hint=f"send {_FORMS[served.loaded.takes]}")
    try:
        lines = [line for line in csv.reader(io.StringIO(bytes(body).decode("utf-8-sig")), strict=True) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"the request is not CSV: {error}", hint="send UTF-8 text, a row a line") from None
    columns = _columns(served)
    if lines and lines[0] == columns:
        del lines[0]
    if not lines:
        raise InputError("the request has no rows", hint=f"a line each: {','.join(columns)}")
    return ItemInstances([_zipped(line, place, columns) for place, line in enumerate(lines, start=1)])


def encode_predictions(asked: ItemInstances | TensorInstances, reply: Reply) -> bytes:
    """Give a prediction an instance: the task's answer or, of tensors, the output's row ({OUTPUT: row} of several).

    Raises InputError for a model whose outputs have other rows than its inputs.
    """
    if isinstance(asked, ItemInstances):
        text = getattr(reply.answers, "text", None)  # a worker's answers are JSON already
        return b'{"predictions":%s}' % (text if text is not None else to_json(list(reply.answers or ())))
    count = len(next(iter(asked.inputs.values())))
    for name, array in (reply.outputs or {}).items():
        if array.ndim == 0 or len(array) != count:
            raise InputError(
                f"output '{name}' has shape {list(array.shape)}, not a row for each of {count} instances",
                hint='ask with tensors: {"inputs": [...]}',
            )
    rows = {name: _rows_of(array) for name, array in (reply.outputs or {}).items()}
    only = next(iter(rows.values())) if len(rows) == 1 else None
    predictions = only or [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
    return orjson.dumps({"predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY)


def _rows_of(array: Array) -> list[Any]:  # arrays, or JSON where that has to be spelled
    if array.dtype.kind in "biuf" and (array.dtype.kind != "f" or np.isfinite(array).all()):
        return list(np.ascontiguousarray(array))
    flat = iter(encode_json(array))

    def build(shape: tuple[int, ...]) -> Any:  # JSON
        return [build(shape[1:]) for _ in range(shape[0])] if shape else next(flat)

    return [build(array.shape[1:]) for _ in range(array.shape[0])]


def _picture(instance: Any, place: int, form: str) -> bytes:  # from outside
    inner = instance
    if isinstance(inner, dict) and len(inner) == 1 and isinstance(only := next(iter(inner.values())), dict):
        inner = only  # {"image_bytes": {"b64": ...}}, as TensorFlow's models were asked
    text = inner.get("b64") if isinstance(inner, dict) else inner
    try:
        if isinstance(text, str):
            return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"instance {place} is not base64", hint=form) from None
    raise InputError(f"instance {place} is {show(instance)}", hint=form)


def _row(instance: Any, place: int, served: Served, form: str) -> Mapping[str, Any]:  # from outside
    if isinstance(instance, dict):
        return instance
    columns = _columns(served)
    values = instance if isinstance(instance, list) else [instance] if text_columns(served) else None
    if values is None:
        raise InputError(f"instance {place} is {show(instance)}", hint=form)
    return _zipped(values, place, columns)


def _zipped(values: list[Any], place: int, columns: list[str]) -> dict[str, Any]:  # from outside
    if len(values) != len(columns):
        raise InputError(
            f"row {place} has {len(values)} values, not {len(columns)}", hint=f"in this order: {', '.join(columns)}"
        )
    return dict(zip(columns, values, strict=True))


def _columns(served: Served) -> list[str]:
    """Give what a row's values are called, in the model's order."""
    named = getattr(served.bundle.deployment.task, "columns", None)
    return list(named or example_row(served))


def _tensors(instances: list[Any], served: Served, form: str) -> dict[str, Array]:  # from outside
    specs = describe_tensors(served.loaded.signature)["inputs"]
    arrays = {}
    for spec in specs:
        name = spec["name"]
        values = [_of_input(one, place, name, len(specs), form) for place, one in enumerate(instances, start=1)]
        shape = (len(values), *_shape_of(values[0]))
        arrays[name] = decode_json(name, dtype_of(name, spec["datatype"]), shape, values)
    return arrays


def _of_input(instance: Any, place: int, name: str, inputs: int, form: str) -> Any:  # from outside
    if not isinstance(instance, dict):
        if inputs == 1:
            return instance
        raise InputError(f"instance {place} is {show(instance)}", hint=form)
    if name not in instance:
        raise InputError(f"instance {place} has no '{name}'", hint=form)
    return instance[name]


def _shape_of(values: Any) -> tuple[int, ...]:  # from outside
    """Give the shape of nested lists by the first of each; where others differ, the decoder tells."""
    shape: list[int] = []
    while isinstance(values, list) and len(shape) < _MOST_DIMENSIONS:
        shape.append(len(values))
        if not values:
            break
        values = values[0]
    return tuple(shape)
