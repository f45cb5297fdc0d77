"""ONNX operators in torch: reductions, gathering and scattering, sorting."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ferryman.core.signature import Array
from ferryman.export._torch.node import Node, Op, Result, Tensor, Unsupported, Value, axes_of, is_host, number, whole


def _reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Op:
    def call(node: Node, value: Tensor, axes: Array | None = None) -> Tensor:
        along = axes_of(node, axes, value.dim())
        if not along:
            if node.get("noop_with_empty_axes", 0):
                return value
            along = list(range(value.dim()))
        return function(value, along, bool(node.get("keepdims", 1))).to(value.dtype)

    return Op(call, host=(1,))


def _prod(value: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        value = torch.prod(value, axis, keepdim=keep)
    return value


def _extreme(function: Callable[..., Tensor]) -> Op:
    def call(node: Node, value: Tensor) -> Tensor:
        axis, keep = node.get("axis", 0), bool(node.get("keepdims", 1))
        if not node.get("select_last_index", 0):
            return function(value, axis, keepdim=keep)
        return value.shape[axis] - 1 - function(value.flip(axis), axis, keepdim=keep)

    return Op(call)


def _counted_from_0(indices: Value, size: Any) -> Tensor:  # size: int or torch.SymInt
    if not is_host(indices):
        return torch.where(indices < 0, indices + size, indices).to(torch.int64)
    known = torch.from_numpy(np.array(indices, dtype=np.int64))
    return torch.where(known < 0, known + size, known) if (indices < 0).any() else known


def _gather(node: Node, value: Tensor, indices: Value) -> Tensor:
    axis = node.get("axis", 0) % value.dim()
    if is_host(indices) and indices.ndim == 0:
        return value.select(axis, number(indices))
    chosen = _counted_from_0(indices, value.shape[axis])
    if chosen.dim() == 1:
        return value.index_select(axis, chosen)
    shape = [*value.shape[:axis], *chosen.shape, *value.shape[axis + 1 :]]
    return value.index_select(axis, chosen.reshape(-1)).reshape(shape)


def _gather_elements(node: Node, value: Tensor, indices: Tensor) -> Tensor:
    axis = node.get("axis", 0)
    return torch.gather(value, axis, _counted_from_0(indices, value.shape[axis]))


def _places(value: Tensor, indices: Tensor, skipped: int = 0) -> tuple[Tensor, ...]:
    parts = [_counted_from_0(indices[..., depth], value.shape[skipped + depth]) for depth in range(indices.shape[-1])]
    return tuple(parts)


def _gather_nd(node: Node, value: Tensor, indices: Tensor) -> Tensor:
    batches = node.get("batch_dims", 0)
    if batches == 0:
        return value[_places(value, indices)]
    places = _places(value, indices, batches)
    counters = [
        torch.arange(value.shape[axis]).reshape([-1 if other == axis else 1 for other in range(indices.dim() - 1)])
        for axis in range(batches)
    ]
    return value[(*counters, *places)]


def _scatter_nd(node: Node, value: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    reduction = node.get("reduction", "none")
    if reduction not in ("none", "add"):
        raise Unsupported(f"its reduction is '{reduction}'")
    return torch.index_put(value, _places(value, indices), updates, accumulate=reduction == "add")


def _scatter_elements(node: Node, value: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    axis, reduction = node.get("axis", 0), node.get("reduction", "none")
    places = _counted_from_0(indices, value.shape[axis])
    if reduction == "none":
        return torch.scatter(value, axis, places, updates)
    words = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
    return torch.scatter_reduce(value, axis, places, updates, words[reduction])


def _top_k(node: Node, value: Tensor, count: Array | None = None) -> Result:
    """Give the largest; of equal ones the first, as ONNX says and torch.topk does not."""
    wanted = whole(count)[0] if count is not None else node.get("k")
    axis = node.get("axis", -1)
    ordered, places = torch.sort(value, dim=axis, descending=bool(node.get("largest", 1)), stable=True)
    return ordered.narrow(axis, 0, wanted), places.narrow(axis, 0, wanted)


def _cumulate(node: Node, value: Tensor, axis: Array) -> Tensor:
    along = number(axis)
    value = value.flip(along) if node.get("reverse", 0) else value
    total = torch.cumsum(value, along, dtype=value.dtype)
    total = total - value if node.get("exclusive", 0) else total
    return total.flip(along) if node.get("reverse", 0) else total


def _one_hot(node: Node, indices: Tensor, depth: Array, values: Tensor) -> Tensor:
    axis, size = node.get("axis", -1), number(depth)
    chosen = _counted_from_0(indices, int(size)).unsqueeze(-1) == torch.arange(int(size))
    return torch.where(chosen, values[1], values[0]).movedim(-1, axis)


def _triangle(node: Node, value: Tensor, diagonal: Array | None = None) -> Tensor:
    offset = number(diagonal) if diagonal is not None else 0
    return torch.triu(value, offset) if node.get("upper", 1) else torch.tril(value, offset)


def _hardmax(node: Node, value: Tensor) -> Tensor:
    axis = node.get("axis", -1 if node.opset >= 13 else 1)
    if node.opset < 13 and axis % value.dim() != value.dim() - 1:
        raise Unsupported("before opset 13 it joins dimensions")
    size = value.shape[axis]
    chosen = value.argmax(axis).unsqueeze(-1) == torch.arange(size)
    return chosen.to(value.dtype).movedim(-1, axis)


def _grid_sample(node: Node, value: Tensor, grid: Tensor) -> Tensor:
    modes = {
        "linear": "bilinear",
        "bilinear": "bilinear",
        "nearest": "nearest",
        "cubic": "bicubic",
        "bicubic": "bicubic",
    }
    return functional.grid_sample(
        value,
        grid,
        mode=modes[node.get("mode", "linear")],
        padding_mode=node.get("padding_mode", "zeros"),
        align_corners=bool(node.get("align_corners", 0)),
    )


SELECT: dict[str, Op] = {
    "ReduceSum": _reduction(lambda value, axes, keep: torch.sum(value, axes, keepdim=keep)),
    "ReduceMean": _reduction(lambda value, axes, keep: torch.mean(value, axes, keepdim=keep)),
    "ReduceMax": _reduction(lambda value, axes, keep: torch.amax(value, axes, keepdim=keep)),
    "ReduceMin": _reduction(lambda value, axes, keep: torch.amin(value, axes, keepdim=keep)),
    "ReduceProd": _reduction(_prod),
    "ReduceL1": _reduction(lambda value, axes, keep: torch.sum(value.abs(), axes, keepdim=keep)),
    "ReduceL2": _reduction(lambda value, axes, keep: torch.sum(value * value, axes, keepdim=keep).sqrt()),
    "ReduceSumSquare": _reduction(lambda value, axes, keep: torch.sum(value * value, axes, keepdim=keep)),
    "ReduceLogSum": _reduction(lambda value, axes, keep: torch.sum(value, axes, keepdim=keep).log()),
    "ReduceLogSumExp": _reduction(lambda value, axes, keep: torch.logsumexp(value, axes, keepdim=keep)),
    "ArgMax": _extreme(torch.argmax),
    "ArgMin": _extreme(torch.argmin),
    "Gather": Op(_gather, either=(1,)),
    "GatherElements": Op(_gather_elements),
    "GatherND": Op(_gather_nd),
    "ScatterND": Op(_scatter_nd),
    "ScatterElements": Op(_scatter_elements),
    "TopK": Op(_top_k, host=(1,)),
    "CumSum": Op(_cumulate, host=(1,)),
    "OneHot": Op(_one_hot, host=(1,)),
    "Trilu": Op(_triangle, host=(1,)),
    "Hardmax": Op(_hardmax),
    "GridSample": Op(_grid_sample),
}
