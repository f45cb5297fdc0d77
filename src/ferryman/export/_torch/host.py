"""Operators on values that are known before the model runs: constants, and sizes with torch's symbols in them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ferryman.core.signature import Array
from ferryman.export._torch.node import Node, Result, Unsupported, axes_of, number, settled, whole

_LARGEST = 65536
"""Values over this many are left to torch."""
_FLOATS = {1: np.float32, 10: np.float16, 11: np.float64}
_WHOLE = {2: np.uint8, 3: np.int8, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_}


def on_host(node: Node, values: list[Any]) -> Result:  # arrays, or None for inputs that are left out
    """Compute a node from known values; NotImplemented where that is for torch."""
    call = _TABLE.get(node.op)
    if call is None or any(value is not None and value.size > _LARGEST for value in values):
        return NotImplemented
    result = call(node, *values)
    if isinstance(result, list):
        return [settled(part) for part in result]
    return result if result is NotImplemented else settled(np.asarray(result))


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(node: Node, *values: Array) -> Array:
        if all(value.dtype != object for value in values):
            return np.asarray(function(*values), dtype=np.result_type(*values))
        spread = np.broadcast_arrays(*values, subok=False)
        return _mapped(function, *spread)

    return call


def _mapped(function: Callable[..., Any], *arrays: Array) -> Array:
    """Apply a function to numbers and symbols one by one: numpy would compare or convert the symbols."""
    result = np.empty(arrays[0].shape, dtype=object)
    for index in np.ndindex(arrays[0].shape):
        result[index] = function(*(_item(array[index]) for array in arrays))
    return result


def _item(value: Any) -> Any:  # numpy scalars to Python's, which torch's symbols know
    return value.item() if isinstance(value, np.generic) else value


def _compare(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(node: Node, *values: Array) -> Array:
        if all(value.dtype != object for value in values):
            return np.asarray(function(*values))
        return _mapped(lambda *items: bool(function(*items)), *np.broadcast_arrays(*values))

    return call


def _divide(left: Any, right: Any) -> Any:  # arrays or single numbers and symbols
    if isinstance(left, np.ndarray) and left.dtype.kind in "iu":
        quotient = np.abs(left) // np.abs(right)
        return np.sign(left) * np.sign(right) * quotient
    is_whole = isinstance(left, int | torch.SymInt) and isinstance(right, int | torch.SymInt)
    return left // right if is_whole else left / right  # sizes are not negative: nothing to round towards zero


def _cast(node: Node, value: Array) -> Array:
    kind = node.get("to")
    if value.dtype != object:
        dtype = _FLOATS.get(kind) or _WHOLE.get(kind)
        return NotImplemented if dtype is None else value.astype(dtype)
    if kind in _FLOATS:
        return _mapped(lambda item: torch.sym_float(item), value)
    return _mapped(lambda item: torch.sym_int(item), value)


def _gather(node: Node, value: Array, indices: Array) -> Array:
    return np.take(value, indices.astype(np.int64), axis=node.get("axis", 0))


def _slice(
    node: Node,
    value: Array,
    starts: Array | None = None,
    ends: Array | None = None,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Array:
    first = whole(starts) if starts is not None else node.get("starts")
    last = whole(ends) if ends is not None else node.get("ends")
    along = axes_of(node, axes, value.ndim) or list(range(len(first)))
    strides = whole(steps) if steps is not None else [1] * len(first)
    window = [slice(None)] * value.ndim
    for axis, start, end, step in zip(along, first, last, strides, strict=True):
        if any(isinstance(limit, torch.SymInt) for limit in (start, end, step)):
            raise Unsupported("it cuts a list of sizes by a size that varies")
        window[axis] = slice(start, None if step < 0 and end < -value.shape[axis] else end, step)
    return value[tuple(window)]


def _squeeze(node: Node, value: Array, axes: Array | None = None) -> Array:
    along = axes_of(node, axes, value.ndim)
    return np.squeeze(value) if along is None else np.squeeze(value, tuple(along))


def _unsqueeze(node: Node, value: Array, axes: Array | None = None) -> Array:
    given = whole(axes) if axes is not None else node.get("axes")
    return np.expand_dims(value, tuple(given))


def _concat(node: Node, *values: Array) -> Array:
    return np.concatenate(values, axis=node.get("axis"))


def _reshape(node: Node, value: Array, shape: Array | None = None) -> Result:
    sizes = whole(shape) if shape is not None else node.get("shape")
    if any(isinstance(size, torch.SymInt) for size in sizes):
        return NotImplemented
    return value.reshape(
        [value.shape[axis] if size == 0 and not node.get("allowzero", 0) else size for axis, size in enumerate(sizes)]
    )


def _filled(node: Node, shape: Array) -> Result:
    sizes = whole(shape)
    if any(isinstance(size, torch.SymInt) for size in sizes) or np.prod(sizes, dtype=np.int64) > _LARGEST:
        return NotImplemented
    value = node.get("value", np.zeros(1, np.float32))
    return np.full(sizes, value.ravel()[0], dtype=value.dtype)


def _range(node: Node, start: Array, limit: Array, step: Array) -> Result:
    if any(value.dtype == object for value in (start, limit, step)):
        return NotImplemented
    return np.arange(number(start), number(limit), number(step), dtype=start.dtype)


def _where(node: Node, condition: Array, left: Array, right: Array) -> Array:
    if all(value.dtype != object for value in (condition, left, right)):
        return np.where(condition, left, right)
    return _mapped(lambda chosen, one, other: one if chosen else other, *np.broadcast_arrays(condition, left, right))


def _total(node: Node, value: Array, axes: Array | None = None) -> Result:
    if axes is not None or node.get("axes") not in (None, [0]) or value.ndim != 1:
        return NotImplemented
    total: Any = 1
    for item in value:
        total = total * _item(item)
    shape = (1,) if node.get("keepdims", 1) else ()
    result = np.empty(shape, dtype=object if value.dtype == object else value.dtype)
    result[...] = total
    return result


_TABLE: dict[str, Callable[..., Result]] = {
    "Identity": lambda node, value: value,
    "Cast": _cast,
    "Gather": _gather,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Reshape": _reshape,
    "Add": _elementwise(lambda left, right: left + right),
    "Sub": _elementwise(lambda left, right: left - right),
    "Mul": _elementwise(lambda left, right: left * right),
    "Div": _elementwise(_divide),
    "Floor": _elementwise(lambda value: np.floor(value) if isinstance(value, np.ndarray) else value // 1),
    "Ceil": _elementwise(lambda value: np.ceil(value) if isinstance(value, np.ndarray) else -(-value // 1)),
    "Equal": _compare(lambda left, right: left == right),
    "Less": _compare(lambda left, right: left < right),
    "Greater": _compare(lambda left, right: left > right),
    "Where": _where,
    "ConstantOfShape": _filled,
    "Range": _range,
    "ReduceProd": _total,
}
