"""ONNX operators in torch: sizes, views, joining and cutting, padding."""

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ferryman.core.signature import Array
from ferryman.export._torch.node import (
    Node,
    Op,
    Result,
    Tensor,
    Unsupported,
    Value,
    axes_of,
    is_host,
    number,
    product,
    settled,
    to_tensor,
    whole,
)


def _shape(node: Node, value: Tensor) -> Array:
    sizes = list(value.shape)
    return settled(np.array(sizes[node.get("start", 0) : node.get("end", len(sizes))], dtype=object))


def _size(node: Node, value: Tensor) -> Array:
    total = np.empty((), dtype=object)
    total[()] = product(value.shape)
    return settled(total)


def _reshape(node: Node, value: Tensor, shape: Array) -> Tensor:
    keeps = not node.get("allowzero", 0)
    sizes = [
        value.shape[axis] if keeps and isinstance(size, int) and size == 0 else size
        for axis, size in enumerate(whole(shape))
    ]
    return value.reshape(sizes)


def _flatten(node: Node, value: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    axis += value.dim() if axis < 0 else 0
    if axis == 1 and value.dim() > 1:
        return value.flatten(1)
    return value.reshape([product(value.shape[:axis]), product(value.shape[axis:])])


def _squeeze(node: Node, value: Tensor, axes: Array | None = None) -> Tensor:
    along = axes_of(node, axes, value.dim())
    if along is None:
        along = [axis for axis, size in enumerate(value.shape) if isinstance(size, int) and size == 1]
    return torch.squeeze(value, along)


def _unsqueeze(node: Node, value: Tensor, axes: Array | None = None) -> Tensor:
    given = whole(axes) if axes is not None else node.get("axes")
    for axis in sorted(axis % (value.dim() + len(given)) for axis in given):
        value = value.unsqueeze(axis)
    return value


def _transpose(node: Node, value: Tensor) -> Tensor:
    return value.permute(node.get("perm") or list(range(value.dim()))[::-1])


def _expand(node: Node, value: Tensor, shape: Array) -> Tensor:
    sizes = whole(shape)
    rank = max(len(sizes), value.dim())
    wanted = [1] * (rank - len(sizes)) + sizes
    there = [1] * (rank - value.dim()) + list(value.shape)
    return value.expand(
        [old if isinstance(new, int) and new == 1 else new for new, old in zip(wanted, there, strict=True)]
    )


def _split(node: Node, value: Tensor, sizes: Array | None = None) -> Result:
    axis = node.get("axis", 0)
    given = whole(sizes) if sizes is not None else node.get("split")
    if given is None:
        count = len(node.outputs)
        return torch.split(value, -(-value.shape[axis] // count), axis)
    return torch.split(value, given, axis)


def _slice(
    node: Node,
    value: Tensor,
    starts: Array | None = None,
    ends: Array | None = None,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Tensor:
    first = whole(starts) if starts is not None else node.get("starts")
    last = whole(ends) if ends is not None else node.get("ends")
    along = axes_of(node, axes, value.dim()) or list(range(len(first)))
    strides = whole(steps) if steps is not None else [1] * len(first)
    for axis, start, end, step in zip(along, first, last, strides, strict=True):
        value = _cut(value, axis, start, end, step)
    return value


def _cut(value: Tensor, axis: int, start: Any, end: Any, step: int) -> Tensor:
    if step > 0:
        return torch.ops.aten.slice.Tensor(value, axis, start, end, step)
    size = value.shape[axis]
    if isinstance(size, int):
        chosen = range(*slice(start, None if end < -size else end, step).indices(size))
        return value.index_select(axis, torch.tensor(list(chosen), dtype=torch.int64))
    if start not in (-1,) and start < 2**31 - 1:
        raise Unsupported("it walks backwards from inside a dimension that varies")
    return torch.ops.aten.slice.Tensor(value.flip(axis), axis, 0, 2**63 - 1, -step)


def _tile(node: Node, value: Tensor, repeats: Array) -> Tensor:
    return value.repeat(whole(repeats))


def _filled(node: Node, shape: Array) -> Tensor:
    fill = node.get("value", np.zeros(1, np.float32))
    return torch.full(whole(shape), fill.ravel()[0].item(), dtype=to_tensor(fill).dtype)


def _range(node: Node, start: Array, limit: Array, step: Array) -> Tensor:
    return torch.arange(number(start), number(limit), number(step))


def _depth_to_space(node: Node, value: Tensor) -> Tensor:
    size = node.get("blocksize")
    if node.get("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(value, size)
    batch, depth, height, width = value.shape
    blocks = value.reshape(batch, size, size, depth // size**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(batch, depth // size**2, height * size, width * size)


def _space_to_depth(node: Node, value: Tensor) -> Tensor:
    size = node.get("blocksize")
    batch, depth, height, width = value.shape
    blocks = value.reshape(batch, depth, height // size, size, width // size, size).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(batch, depth * size**2, height // size, width // size)


def _pad(node: Node, value: Tensor, pads: Array | None = None, fill: Value = None, axes: Array | None = None) -> Tensor:
    given = whole(pads) if pads is not None else node.get("pads")
    along = axes_of(node, axes, value.dim()) or list(range(value.dim()))
    ends = [(axis, given[i], given[i + len(along)]) for i, axis in enumerate(along)]
    mode = node.get("mode", "constant")
    if mode == "constant":
        if fill is not None and not is_host(fill):
            raise Unsupported("what it fills with is computed by the model")
        filling = number(fill) if fill is not None else node.get("value", 0.0)
        flat = [0] * 2 * value.dim()
        for axis, before, after in ends:
            place = 2 * (value.dim() - 1 - axis)
            flat[place], flat[place + 1] = before, after
        return functional.pad(value, flat, value=filling)
    for axis, before, after in ends:
        value = _mirrored(value, axis, before, after, str(mode))
    return value


def _mirrored(value: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """Add repetitions of what is there along one axis: by index, as torch does it for some ranks and axes only."""
    size = value.shape[axis]
    if before == after == 0:
        return value
    if not isinstance(size, int) or mode not in ("reflect", "edge", "wrap"):
        raise Unsupported(f"it pads by '{mode}' along a dimension that varies")
    indices = np.arange(size)[max(-before, 0) : size - max(-after, 0)]  # negative: cut off
    chosen = np.pad(indices, (max(before, 0), max(after, 0)), mode=mode)  # type: ignore[call-overload]  # one of three
    return value.index_select(axis, torch.from_numpy(chosen))


SHAPES: dict[str, Op] = {
    "Shape": Op(_shape),
    "Size": Op(_size),
    "Reshape": Op(_reshape, host=(1,)),
    "Flatten": Op(_flatten),
    "Squeeze": Op(_squeeze, host=(1,)),
    "Unsqueeze": Op(_unsqueeze, host=(1,)),
    "Transpose": Op(_transpose),
    "Expand": Op(_expand, host=(1,)),
    "Concat": Op(lambda node, *values: torch.cat(values, node.get("axis"))),
    "Split": Op(_split, host=(1,)),
    "Slice": Op(_slice, host=(1, 2, 3, 4)),
    "Tile": Op(_tile, host=(1,)),
    "ConstantOfShape": Op(_filled, host=(0,)),
    "Range": Op(_range, host=(0, 1, 2)),
    "DepthToSpace": Op(_depth_to_space),
    "SpaceToDepth": Op(_space_to_depth),
    "Pad": Op(_pad, host=(1, 3), either=(2,)),
}
