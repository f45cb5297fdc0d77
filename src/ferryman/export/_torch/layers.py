"""ONNX operators in torch: convolutions, pools, products, normalizations."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from ferryman.export._torch.node import Node, Op, Tensor, Unsupported, product

_CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)
_TRANSPOSED = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)
_MAX_POOLS = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)
_AVERAGE_POOLS = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)


def _of_rank(functions: Sequence[Any], rank: int) -> Any:  # torch's function for so many spatial dimensions
    if not 1 <= rank <= len(functions):
        raise Unsupported(f"it works on {rank} spatial dimensions; torch has it for 1 to {len(functions)}")
    return functions[rank - 1]


def _paddings(node: Node, sizes: Sequence[Any], kernel: Sequence[int]) -> tuple[list[Any], list[Any]]:
    """Give what is added before and after each spatial dimension; sizes may be torch's symbols."""
    rank = len(kernel)
    mode = node.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        pads = node.get("pads") or [0] * 2 * rank
        return list(pads[:rank]), list(pads[rank:])
    if mode == "VALID":
        return [0] * rank, [0] * rank
    strides, dilations = node.get("strides") or [1] * rank, node.get("dilations") or [1] * rank
    totals = [
        torch.sym_max((-(-size // stride) - 1) * stride + (length - 1) * dilation + 1 - size, 0)
        for size, stride, length, dilation in zip(sizes, strides, kernel, dilations, strict=True)
    ]
    halves = [total // 2 for total in totals]
    rests = [total - half for total, half in zip(totals, halves, strict=True)]
    return (halves, rests) if mode == "SAME_UPPER" else (rests, halves)


def pad_spatial(value: Tensor, before: Sequence[Any], after: Sequence[Any], fill: float = 0.0) -> Tensor:
    """Add a constant around the spatial dimensions."""
    flat = [amount for pair in zip(reversed(before), reversed(after), strict=True) for amount in pair]
    return functional.pad(value, flat, value=fill)


def _is_even(before: Sequence[Any], after: Sequence[Any]) -> bool:
    return all(isinstance(one, int) and one == other for one, other in zip(before, after, strict=True))


def _conv(node: Node, value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rank = value.dim() - 2
    before, after = _paddings(node, value.shape[2:], weight.shape[2:])
    if not _is_even(before, after):
        value, before = pad_spatial(value, before, after), [0] * rank
    return _of_rank(_CONVOLUTIONS, rank)(
        value,
        weight,
        bias,
        stride=node.get("strides") or [1] * rank,
        padding=before,
        dilation=node.get("dilations") or [1] * rank,
        groups=node.get("group", 1),
    )


def _conv_transpose(node: Node, value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rank = value.dim() - 2
    strides, dilations = node.get("strides") or [1] * rank, node.get("dilations") or [1] * rank
    extra = node.get("output_padding") or [0] * rank
    reach = [(length - 1) * dilation + 1 for length, dilation in zip(weight.shape[2:], dilations, strict=True)]
    before, after = _trims(node, value.shape[2:], reach)
    uneven = not _is_even(before, after)
    result = _of_rank(_TRANSPOSED, rank)(
        value,
        weight,
        bias,
        stride=strides,
        padding=[0] * rank if uneven else before,
        output_padding=[0] * rank if uneven else extra,
        groups=node.get("group", 1),
        dilation=dilations,
    )
    if not uneven:
        return result
    # What is cut off is the padding; what `output_padding` adds lies behind it.
    result = pad_spatial(result, [0] * rank, extra)
    for axis, (first, last) in enumerate(zip(before, after, strict=True)):
        result = result.narrow(axis + 2, first, result.shape[axis + 2] - first - last)
    return result


def _trims(node: Node, sizes: Sequence[Any], reach: Sequence[int]) -> tuple[list[Any], list[Any]]:
    """Give what a transposed convolution cuts off before and after each spatial dimension."""
    rank = len(reach)
    mode, wanted = node.get("auto_pad", "NOTSET"), node.get("output_shape")
    if wanted is None and mode in ("NOTSET", "", "VALID"):
        pads = node.get("pads") if mode != "VALID" else None
        return list((pads or [0] * 2 * rank)[:rank]), list((pads or [0] * 2 * rank)[rank:])
    strides, extra = node.get("strides") or [1] * rank, node.get("output_padding") or [0] * rank
    targets = wanted[-rank:] if wanted else [size * stride for size, stride in zip(sizes, strides, strict=True)]
    totals = [
        stride * (size - 1) + more + length - target
        for size, stride, more, length, target in zip(sizes, strides, extra, reach, targets, strict=True)
    ]
    halves = [total // 2 for total in totals]
    rests = [total - half for total, half in zip(totals, halves, strict=True)]
    return (halves, rests) if mode == "SAME_UPPER" else (rests, halves)


def _window(node: Node, value: Tensor) -> tuple[list[int], list[int], list[Any], list[Any]]:
    kernel = list(node.get("kernel_shape"))
    before, after = _paddings(node, value.shape[2:], kernel)
    return kernel, list(node.get("strides") or [1] * len(kernel)), before, after


def _max_pool(node: Node, value: Tensor) -> Tensor:
    if len(node.outputs) > 1:
        raise Unsupported("its second output (indices) is used")
    kernel, strides, before, after = _window(node, value)
    rank = len(kernel)
    if not _is_even(before, after) or any(2 * pad > length for pad, length in zip(before, kernel, strict=True)):
        value, before = pad_spatial(value, before, after, float("-inf")), [0] * rank
    dilations = node.get("dilations") or [1] * rank
    return _of_rank(_MAX_POOLS, rank)(
        value, kernel, strides, before, dilation=dilations, ceil_mode=bool(node.get("ceil_mode", 0))
    )


def _average_pool(node: Node, value: Tensor) -> Tensor:
    kernel, strides, before, after = _window(node, value)
    rank = len(kernel)
    if any(size != 1 for size in node.get("dilations") or []):
        raise Unsupported("it has dilations")
    pool = _of_rank(_AVERAGE_POOLS, rank)
    ceil, counts_pads = bool(node.get("ceil_mode", 0)), bool(node.get("count_include_pad", 0))
    if _is_even(before, after) and all(2 * pad <= length for pad, length in zip(before, kernel, strict=True)):
        return pool(value, kernel, strides, before, ceil_mode=ceil, count_include_pad=counts_pads)
    averages = pool(pad_spatial(value, before, after), kernel, strides, ceil_mode=ceil)
    if counts_pads:
        return averages
    share = pool(pad_spatial(torch.ones_like(value[:1, :1]), before, after), kernel, strides, ceil_mode=ceil)
    return averages / share


def _global_pool(function: str) -> Op:
    return Op(lambda node, value: getattr(torch, function)(value, dim=list(range(2, value.dim())), keepdim=True))


def _gemm(node: Node, left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    left = left.t() if node.get("transA", 0) else left
    if alpha == beta == 1 and (bias is None or bias.dim() == 1):
        return functional.linear(left, right if node.get("transB", 0) else right.t(), bias)
    result = torch.matmul(left, right.t() if node.get("transB", 0) else right)
    result = result * alpha if alpha != 1 else result
    return result if bias is None else result + (bias * beta if beta != 1 else bias)


def _batch_norm(node: Node, value: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    if node.get("training_mode", 0):
        raise Unsupported("it takes statistics of the batch, as in training")
    return functional.batch_norm(value, mean, variance, scale, bias, False, 0.0, node.get("epsilon", 1e-5))


def _layer_norm(node: Node, value: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    if len(node.outputs) > 1:
        raise Unsupported("its mean and deviation are used")
    shape = value.shape[node.get("axis", -1) % value.dim() :]
    epsilon = node.get("epsilon", 1e-5)
    if tuple(scale.shape) == tuple(shape):
        return functional.layer_norm(value, shape, scale, bias, epsilon)
    result = functional.layer_norm(value, shape, None, None, epsilon) * scale
    return result if bias is None else result + bias


def _rms_norm(node: Node, value: Tensor, scale: Tensor) -> Tensor:
    axes = list(range(node.get("axis", -1) % value.dim(), value.dim()))
    squares = torch.mean(value * value, dim=axes, keepdim=True)
    return value * torch.rsqrt(squares + node.get("epsilon", 1e-5)) * scale


def _instance_norm(node: Node, value: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return functional.instance_norm(value, weight=scale, bias=bias, eps=node.get("epsilon", 1e-5))


def _group_norm(node: Node, value: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups, channels = node.get("num_groups"), value.shape[1]
    if node.opset < 21:  # one scale a group then, one a channel since
        scale, bias = (part.repeat_interleave(channels // groups) for part in (scale, bias))
    return functional.group_norm(value, groups, scale, bias, node.get("epsilon", 1e-5))


def _local_response_norm(node: Node, value: Tensor) -> Tensor:
    size = node.get("size")
    if size % 2 == 0:
        raise Unsupported(f"its window is even ({size}), which torch lays otherwise")
    alpha, beta, bias = node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0)
    return functional.local_response_norm(value, size, alpha, beta, bias)


def _lp_norm(node: Node, value: Tensor) -> Tensor:
    power, axis = node.get("p", 2), node.get("axis", -1)
    length = value.abs().sum(axis, keepdim=True) if power == 1 else (value * value).sum(axis, keepdim=True).sqrt()
    return torch.where(length == 0, torch.zeros_like(value), value / length)


def _softmax(function: Any) -> Op:  # torch.softmax or torch.log_softmax
    def call(node: Node, value: Tensor) -> Tensor:
        if node.opset >= 13:
            return function(value, node.get("axis", -1))
        axis = node.get("axis", 1) % value.dim()  # once, all dimensions from `axis` on were one
        if axis == value.dim() - 1:
            return function(value, -1)
        flat = value.reshape([*value.shape[:axis], product(value.shape[axis:])])
        return function(flat, -1).reshape(value.shape)

    return Op(call)


LAYERS: dict[str, Op] = {
    "Conv": Op(_conv),
    "ConvTranspose": Op(_conv_transpose),
    "MaxPool": Op(_max_pool),
    "AveragePool": Op(_average_pool),
    "GlobalAveragePool": _global_pool("mean"),
    "GlobalMaxPool": _global_pool("amax"),
    "Gemm": Op(_gemm),
    "MatMul": Op(lambda node, left, right: torch.matmul(left, right)),
    "Einsum": Op(lambda node, *values: torch.einsum(node.get("equation").replace(" ", ""), *values)),
    "BatchNormalization": Op(_batch_norm),
    "LayerNormalization": Op(_layer_norm),
    "RMSNormalization": Op(_rms_norm),
    "InstanceNormalization": Op(_instance_norm),
    "GroupNormalization": Op(_group_norm),
    "LRN": Op(_local_response_norm),
    "LpNormalization": Op(_lp_norm),
    "Softmax": _softmax(torch.softmax),
    "LogSoftmax": _softmax(torch.log_softmax),
}
