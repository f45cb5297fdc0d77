"""One ONNX operator, what computes it, and values that are numbers before the model runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ferryman.core.signature import Array

Tensor = Any  # torch.Tensor: torch's types are skipped by mypy
Value = Any  # a Tensor, or an Array on the host: a constant, or sizes (int or torch.SymInt, dtype object)
Result = Any  # a Value, or a sequence of one for each output


class Unsupported(Exception):
    """Say what of an operator can't be expressed; whoever walks the graph adds which node it is."""


@dataclass(frozen=True, slots=True)
class Node:
    """Hold one node of the graph; `opset` is that of its domain, by which many operators change their meaning."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]  # plain Python values; tensors as arrays
    opset: int

    def get(self, attribute: str, default: Any = None) -> Any:
        """Give an attribute's value, or the operator's default."""
        return self.attributes.get(attribute, default)


@dataclass(frozen=True, slots=True)
class Op:
    """Compute an operator. Inputs at the positions `host` must be known numbers; those at `either` are, if constant."""

    call: Callable[..., Result]
    host: tuple[int, ...] = ()
    either: tuple[int, ...] = ()


def plain(function: Callable[..., Result]) -> Op:
    """Make an operator of a torch function that takes the inputs and no attributes."""
    return Op(lambda node, *values: function(*values))


def is_host(value: Value) -> bool:
    """Tell whether a value is known before the model runs."""
    return isinstance(value, np.ndarray)


def settled(values: Any) -> Array:  # nested lists of numbers or torch's symbols, or an array
    """Give an array of whole numbers where there is no symbol among them; of objects otherwise."""
    array = np.asarray(values, dtype=object) if not isinstance(values, np.ndarray) else values
    if array.dtype != object:
        return array
    kinds = {type(value) for value in array.ravel()}
    if kinds <= {int, np.int64, np.int32}:
        return array.astype(np.int64)
    if kinds <= {bool, np.bool_}:
        return array.astype(np.bool_)
    return array.astype(np.float32) if kinds <= {float, np.float32, np.float64} else array


def whole(value: Array) -> list[Any]:  # int or torch.SymInt
    """Give the numbers of a shape-like value as a list."""
    return [item if isinstance(item, torch.SymInt) else int(item) for item in np.asarray(value).ravel()]


def number(value: Array) -> Any:  # bool, int, float, or a symbol of torch
    """Give the one number that a value holds."""
    return np.asarray(value).ravel()[0] if value.dtype == object else np.asarray(value).ravel()[0].item()


def to_tensor(value: Array) -> Tensor:
    """Put a host value into a tensor, with torch's symbols as they are."""
    if value.dtype != object:
        if value.dtype.name == "bfloat16":
            return torch.from_numpy(value.view(np.int16).copy()).view(torch.bfloat16)
        return torch.from_numpy(np.array(value))
    items = list(value.ravel())
    is_whole = all(isinstance(item, int | np.integer | torch.SymInt) for item in items)
    dtype = torch.int64 if is_whole else torch.float32
    return torch.stack([torch.scalar_tensor(item, dtype=dtype) for item in items]).reshape(value.shape)


def to_array(value: Tensor) -> Array:
    """Take a tensor's values to the host."""
    array: Array = value.detach().contiguous().numpy()
    return array


def axes_of(node: Node, given: Array | None, rank: int) -> list[int] | None:
    """Give the axes of an operator, counted from 0, from its input or (older opsets) its attribute."""
    axes = whole(given) if given is not None else node.get("axes")
    return None if axes is None else [axis % rank for axis in axes]


def product(sizes: Sequence[Any]) -> Any:  # int or torch.SymInt
    """Multiply sizes."""
    total: Any = 1
    for size in sizes:
        total = total * size
    return total
