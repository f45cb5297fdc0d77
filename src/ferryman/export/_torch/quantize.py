"""ONNX's quantization operators in torch: whole numbers, scales and zero points, as plain arithmetic."""

from typing import Any

import torch

from ferryman.export._torch.elementwise import torch_dtype
from ferryman.export._torch.layers import LAYERS
from ferryman.export._torch.node import Node, Op, Result, Tensor, Unsupported


def _spread(part: Tensor, value: Tensor, axis: int) -> Tensor:
    """Lay a channel's numbers along its axis."""
    return part if part.dim() != 1 else part.reshape([-1 if i == axis % value.dim() else 1 for i in range(value.dim())])


def _refuse_blocks(node: Node) -> None:
    if node.get("block_size", 0):
        raise Unsupported("it quantizes in blocks")


def _quantize(node: Node, value: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    _refuse_blocks(node)
    kind = node.get("output_dtype", 0)
    dtype = zero.dtype if zero is not None else torch_dtype(kind or 2)
    axis = node.get("axis", 1)
    levels = torch.round(value / _spread(scale, value, axis))
    if zero is not None:
        levels = levels + _spread(zero, value, axis).to(levels.dtype)
    limits: Any = torch.iinfo(dtype)
    return torch.clamp(levels, limits.min, limits.max).to(dtype)


def _dequantize(node: Node, value: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    _refuse_blocks(node)
    axis = node.get("axis", 1)
    levels = value.to(scale.dtype)
    if zero is not None:
        levels = levels - _spread(zero, value, axis).to(scale.dtype)
    return levels * _spread(scale, value, axis)


def _quantize_by_range(node: Node, value: Tensor) -> Result:
    lowest, highest = torch.clamp(value.min(), max=0.0), torch.clamp(value.max(), min=0.0)
    scale = (highest - lowest) / 255
    zero = torch.clamp(torch.round(-lowest / scale), 0, 255)
    levels = torch.clamp(torch.round(value / scale) + zero, 0, 255)
    return levels.to(torch.uint8), scale, zero.to(torch.uint8)


def _without_zero(value: Tensor, zero: Tensor | None, axis: int, dtype: Any) -> Tensor:  # dtype: torch.dtype
    return value.to(dtype) if zero is None else value.to(dtype) - _spread(zero, value, axis).to(dtype)


def _whole_product(
    node: Node, left: Tensor, right: Tensor, left_zero: Tensor | None = None, right_zero: Tensor | None = None
) -> Tensor:
    return torch.matmul(
        _without_zero(left, left_zero, -2, torch.int32), _without_zero(right, right_zero, -1, torch.int32)
    )


def _whole_conv(
    node: Node, value: Tensor, weight: Tensor, zero: Tensor | None = None, weight_zero: Tensor | None = None
) -> Tensor:
    # In float64, which holds every sum of such products exactly: torch has no convolution of whole numbers.
    result = LAYERS["Conv"].call(
        node, _without_zero(value, zero, 1, torch.float64), _without_zero(weight, weight_zero, 0, torch.float64)
    )
    return result.to(torch.int32)


QUANTIZE: dict[str, Op] = {
    "QuantizeLinear": Op(_quantize),
    "DequantizeLinear": Op(_dequantize),
    "DynamicQuantizeLinear": Op(_quantize_by_range),
    "MatMulInteger": Op(_whole_product),
    "ConvInteger": Op(_whole_conv),
}
