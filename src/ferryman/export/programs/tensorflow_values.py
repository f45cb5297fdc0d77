"""Tensors that know which of their axes holds the channels. Runs in a Python of TensorFlow's own."""

from typing import Any

import numpy as np
import tensorflow as tf
from onnx import helper

Tensor = Any  # a tensor of TensorFlow's
Known = Any  # a numpy array: what the graph holds, and does not compute

_LAST, _FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


class Unknown(Exception):
    """Name an operator that is not computed here."""


class Value:
    """Hold a computed tensor in ONNX's order of axes, in channels-last order, or in both."""

    def __init__(self, plain: Tensor = None, last: Tensor = None) -> None:
        self._plain, self._last = plain, last

    @property
    def is_last(self) -> bool:
        """Tell whether it is there channels-last."""
        return self._last is not None

    @property
    def rank(self) -> int:
        """Give the number of its axes."""
        return int((self._last if self._plain is None else self._plain).shape.rank)

    @property
    def plain(self) -> Tensor:
        """Give it in ONNX's order."""
        if self._plain is None:
            self._plain = tf.transpose(self._last, _FIRST)
        return self._plain

    @property
    def last(self) -> Tensor:
        """Give it channels-last; it has four axes."""
        if self._last is None:
            if self._plain.shape.rank != 4:
                raise Unknown(f"it takes pictures, and has {self._plain.shape.rank} axes")
            self._last = tf.transpose(self._plain, _LAST)
        return self._last


class Node:
    """Hold an operator's attributes."""

    def __init__(self, proto: Any) -> None:
        self.kind, self.name, self.outputs = proto.op_type, proto.name or proto.output[0], list(proto.output)
        self.attributes = {part.name: helper.get_attribute_value(part) for part in proto.attribute}

    def get(self, name: str, default: Any = None) -> Any:
        """Give an attribute; text as str."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value


def plain_of(value: Any) -> Tensor:
    """Give a tensor, or what the graph holds, in ONNX's order of axes."""
    return value.plain if isinstance(value, Value) else tf.constant(value)


def numbers(value: Any) -> "list[int]":
    """Give whole numbers that the graph holds; raises Unknown for computed ones."""
    found = tf.get_static_value(value.plain) if isinstance(value, Value) else value
    if found is None:
        raise Unknown("its sizes are computed by the model")
    return [int(one) for one in np.asarray(found).reshape(-1)]


def each(compute: Any) -> Any:
    """Make an operator of a function that treats every number alike, whatever the order of axes."""

    def run(node: Node, value: Any, *more: Any) -> Value:
        if isinstance(value, Value) and value.is_last:
            return Value(last=compute(node, value.last, *more))
        return Value(compute(node, plain_of(value), *more))

    return run


def pairs(compute: Any) -> Any:
    """Make an operator of a function of two or more tensors that are broadcast, as ONNX does."""

    def run(node: Node, *values: Any) -> Value:
        computed = [value for value in values if isinstance(value, Value)]
        if not any(value.is_last for value in computed) or any(value.rank != 4 for value in computed):
            return Value(_folded(compute, [plain_of(value) for value in values]))
        return Value(last=_folded(compute, [_as_last(value) for value in values]))

    return run


def _folded(compute: Any, tensors: "list[Tensor]") -> Tensor:
    first, *others = tensors
    for other in others:
        first = compute(first, other)
    return first


def _as_last(value: Any) -> Tensor:
    if isinstance(value, Value):
        return value.last
    whole = np.reshape(value, (1,) * (4 - value.ndim) + value.shape)
    return tf.constant(np.transpose(whole, _LAST) if value.ndim else value)


def on_pictures(compute: Any) -> Any:
    """Make an operator of a function of one picture, channels-last, and of what else the graph holds."""

    def run(node: Node, value: Any, *more: Any) -> Value:
        picture = value if isinstance(value, Value) else Value(tf.constant(value))
        return Value(last=compute(node, picture.last, *more))

    return run


def on_axes(compute: Any) -> Any:
    """Make an operator of a function that counts axes as ONNX does."""

    def run(node: Node, value: Any, *more: Any) -> Any:
        made = compute(node, plain_of(value), *more)
        return [Value(one) for one in made] if isinstance(made, list) else Value(made)

    return run


def concat(node: Node, *values: Any) -> Value:
    """Join along an axis; pictures stay as they are."""
    axis = node.get("axis")
    if all(isinstance(value, Value) and value.is_last for value in values):
        return Value(last=tf.concat([value.last for value in values], _FIRST[axis % 4]))
    return Value(tf.concat([plain_of(value) for value in values], axis))


def reduce(compute: Any) -> Any:
    """Make an operator of one of TensorFlow's reductions."""

    def run(node: Node, value: Any, axes: Any = None) -> Value:
        tensor = plain_of(value)
        along = numbers(axes) if axes is not None else node.get("axes") or list(range(tensor.shape.rank))
        return Value(compute(tensor, axis=list(along), keepdims=bool(node.get("keepdims", 1))))

    return run
