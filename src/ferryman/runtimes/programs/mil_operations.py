"""Evaluate the operations of Core ML programs in torch: a table from each one's name to a function of its inputs."""

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mil_layers import (
    attention,
    axes_of,
    batch_norm,
    conv,
    conv_transpose,
    gelu,
    instance_norm,
    ints,
    layer_norm,
    linear,
    matmul,
    padded,
    pool,
    tensor,
)

Value = Any  # torch.Tensor, or what a constant holds: numpy values, text
Call = Any  # a function of one operation's inputs


def _reduce(call: Call, x: Value, axes: Value = None, keep_dims: Value = False) -> Value:
    return call(tensor(x), axes_of(x, axes), bool(keep_dims))


def _arg(call: Call, x: Value, axis: Value = -1, keep_dims: Value = False, output_dtype: str = "") -> Value:
    return call(x, int(axis), bool(keep_dims))


def _topk(x: Value, k: Value = 1, axis: Value = -1, ascending: Value = False, **_how: Value) -> Value:
    return tuple(torch.topk(x, int(np.asarray(k).item()), int(axis), largest=not ascending))


def _split(x: Value, num_splits: Value = None, split_sizes: Value = None, axis: Value = 0) -> Value:
    sizes = ints(split_sizes) if split_sizes is not None else x.shape[int(axis)] // int(num_splits)
    return torch.split(x, sizes, int(axis))


def _slice(  # noqa: PLR0913 - the operation's own inputs
    x: Value,
    begin: Value,
    end: Value,
    stride: Value = None,
    begin_mask: Value = None,
    end_mask: Value = None,
    squeeze_mask: Value = None,
) -> Value:
    """Give what a slice with masks names, also with negative strides."""
    count = x.dim()
    masks = [
        [False] * count if mask is None else list(np.asarray(mask)) for mask in (begin_mask, end_mask, squeeze_mask)
    ]
    steps = [1] * count if stride is None else ints(stride)
    picks: list[Any] = []
    for axis, (first, last, step) in enumerate(zip(ints(begin), ints(end), steps, strict=True)):
        if masks[2][axis]:
            picks.append(first)
        else:
            picks.append(slice(None if masks[0][axis] else first, None if masks[1][axis] else last, step))
    if all(step > 0 for step in steps):
        return x[tuple(picks)]
    return torch.from_numpy(x.numpy()[tuple(picks)].copy())


def _slice_by_size(x: Value, begin: Value, size: Value) -> Value:
    for axis, (first, length) in enumerate(zip(ints(begin), ints(size), strict=True)):
        x = x.narrow(axis, first, x.shape[axis] - first if length == -1 else length)
    return x


def _reshape(x: Value, shape: Value) -> Value:
    wanted = [x.shape[axis] if size == 0 else size for axis, size in enumerate(ints(shape))]
    return x.reshape(wanted)


def _expand(x: Value, axes: Value) -> Value:
    rank = x.dim() + len(ints(axes))
    for axis in sorted(axis % rank for axis in ints(axes)):
        x = x.unsqueeze(axis)
    return x


def _squeeze(x: Value, axes: Value = None) -> Value:
    return x.squeeze() if axes is None else x.squeeze(ints(axes))


def _pad(x: Value, pad: Value, mode: str = "constant", constant_val: Value = 0.0) -> Value:
    pads = ints(pad)
    if str(mode) == "constant":
        return padded(x, pads, float(constant_val))
    while len(pads) > 2 and not any(pads[:2]):
        pads = pads[2:]  # torch wants none but the last dimensions here
    pairs = [pads[index : index + 2] for index in range(0, len(pads), 2)]
    flat = [size for pair in reversed(pairs) for size in pair]
    return F.pad(x, flat, mode="reflect" if str(mode) == "reflect" else "replicate")


def _gather(x: Value, indices: Value, axis: Value = 0, **_how: Value) -> Value:
    x, places = tensor(x), torch.as_tensor(np.asarray(indices)).long()
    axis = int(axis) % x.dim()
    places = torch.where(places < 0, places + x.shape[axis], places)
    taken = x.index_select(axis, places.reshape(-1))
    return taken.reshape([*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]])


def _gather_along(x: Value, indices: Value, axis: Value = 0, **_how: Value) -> Value:
    return torch.gather(tensor(x), int(axis), torch.as_tensor(np.asarray(indices)).long())


def _resize_bilinear(
    x: Value, target_size_height: Value = 1, target_size_width: Value = 1, sampling_mode: str = "DEFAULT"
) -> Value:
    corners = {"STRICT_ALIGN_CORNERS": True, "ALIGN_CORNERS": True, "UNALIGN_CORNERS": False}
    if str(sampling_mode) not in corners:
        raise Refused(f"this package can't be verified here: resize_bilinear with '{sampling_mode}'")
    size = [int(target_size_height), int(target_size_width)]
    return F.interpolate(x, size, mode="bilinear", align_corners=corners[str(sampling_mode)])


def _upsample(
    mode: str,
    x: Value,
    scale_factor_height: Value = 1,
    scale_factor_width: Value = 1,
    align_corners: Value = None,
    **_how: Value,
) -> Value:
    size = [round(x.shape[2] * float(scale_factor_height)), round(x.shape[3] * float(scale_factor_width))]
    corners = {"align_corners": bool(align_corners)} if mode == "bilinear" else {}
    return F.interpolate(x, size, mode=mode, **corners)


def _cast(x: Value, dtype: str) -> Value:
    kinds = {"fp16": torch.float32, "fp32": torch.float32, "bool": torch.bool}
    return tensor(x).to(kinds.get(str(dtype), torch.int32))


def _affine(quantized_data: Value, zero_point: Value, scale: Value, axis: Value) -> Value:
    data = np.asarray(quantized_data).astype(np.float32)
    shape = [-1 if place == int(axis) % data.ndim else 1 for place in range(data.ndim)]
    zero, size = (np.atleast_1d(np.asarray(part).astype(np.float32)) for part in (zero_point, scale))
    return torch.from_numpy(
        (data - zero.reshape(shape if zero.size > 1 else [1] * data.ndim))
        * size.reshape(shape if size.size > 1 else [1] * data.ndim)
    )


def _blockwise(data: Value, scale: Value, offset: Value = None) -> Value:
    values, scales = np.asarray(data).astype(np.float32), np.asarray(scale).astype(np.float32)
    offsets = np.zeros_like(scales) if offset is None else np.asarray(offset).astype(np.float32)
    for axis, size in enumerate(values.shape):
        scales, offsets = (np.repeat(part, size // part.shape[axis], axis) for part in (scales, offsets))
    return torch.from_numpy((values - offsets) * scales)


def _binary(call: Call, x: Value, y: Value) -> Value:
    return call(tensor(x), tensor(y))


def _unary(call: Call, x: Value) -> Value:
    return call(tensor(x))


def _concat(values: list[Value], axis: Value, interleave: Value = False) -> Value:
    parts = [tensor(value) for value in values]
    if not interleave:
        return torch.cat(parts, int(axis))
    return torch.stack(parts, int(axis) + 1).flatten(int(axis), int(axis) + 1)


OPERATIONS: dict[str, Call] = {
    "conv": conv,
    "conv_transpose": conv_transpose,
    "max_pool": partial(pool, "max"),
    "avg_pool": partial(pool, "avg"),
    "batch_norm": batch_norm,
    "instance_norm": instance_norm,
    "layer_norm": layer_norm,
    "linear": linear,
    "matmul": matmul,
    "scaled_dot_product_attention": attention,
    "gelu": gelu,
    "leaky_relu": lambda x, alpha=0.01: F.leaky_relu(x, float(alpha)),
    "prelu": lambda x, alpha: F.prelu(x, tensor(alpha)),
    "elu": lambda x, alpha=1.0: F.elu(x, float(alpha)),
    "sigmoid_hard": lambda x, alpha=0.2, beta=0.5: torch.clamp(x * float(alpha) + float(beta), 0, 1),
    "thresholded_relu": lambda x, alpha=1.0: torch.where(x >= float(alpha), x, 0.0),
    "clamped_relu": lambda x, alpha, beta: torch.clamp(torch.where(x >= 0, x, x * float(alpha)), max=float(beta)),
    "threshold": lambda x, alpha: torch.clamp(x, min=float(alpha)),
    "clip": lambda x, alpha, beta: torch.clamp(x, float(alpha), float(beta)),
    "log": lambda x, epsilon=1e-45: torch.log(x + float(epsilon)),
    "rsqrt": lambda x, epsilon=1e-12: torch.rsqrt(x + float(epsilon)),
    "inverse": lambda x, epsilon=1e-4: torch.reciprocal(x + float(epsilon)),
    "select": lambda cond, a, b: torch.where(tensor(cond).bool(), tensor(a), tensor(b)),
    "softmax": lambda x, axis=-1: torch.softmax(x, int(axis)),
    "reduce_argmax": partial(_arg, torch.argmax),
    "reduce_argmin": partial(_arg, torch.argmin),
    "topk": _topk,
    "concat": _concat,
    "stack": lambda values, axis: torch.stack([tensor(value) for value in values], int(axis)),
    "split": _split,
    "slice_by_index": _slice,
    "slice_by_size": _slice_by_size,
    "reshape": _reshape,
    "transpose": lambda x, perm: x.permute(ints(perm)),
    "expand_dims": _expand,
    "squeeze": _squeeze,
    "pad": _pad,
    "tile": lambda x, reps: tensor(x).repeat(ints(reps)),
    "gather": _gather,
    "gather_along_axis": _gather_along,
    "fill": lambda shape, value=0.0: torch.full(ints(shape), np.asarray(value).item()),
    "shape": lambda x: torch.tensor(x.shape, dtype=torch.int32),
    "identity": lambda x: tensor(x),
    "cast": _cast,
    "resize_bilinear": _resize_bilinear,
    "upsample_bilinear": partial(_upsample, "bilinear"),
    "upsample_nearest_neighbor": partial(_upsample, "nearest"),
    "resize_nearest_neighbor": lambda x, target_size_height, target_size_width: F.interpolate(
        x, [int(target_size_height), int(target_size_width)], mode="nearest"
    ),
    "pixel_shuffle": lambda x, upscale_factor: F.pixel_shuffle(x, int(upscale_factor)),
    "constexpr_affine_dequantize": _affine,
    "constexpr_blockwise_shift_scale": _blockwise,
    "constexpr_cast": lambda source_val, output_dtype: torch.from_numpy(np.asarray(source_val).astype(np.float32)),
}
for _name, _call in {
    "relu": F.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "exp": torch.exp,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "abs": torch.abs,
    "sign": torch.sign,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "sin": torch.sin,
    "cos": torch.cos,
    "logical_not": torch.logical_not,
}.items():
    OPERATIONS[_name] = partial(_unary, _call)
for _name, _call in {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "real_div": torch.true_divide,
    "pow": torch.pow,
    "floor_div": torch.floor_divide,
    "mod": torch.remainder,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "less": torch.lt,
    "less_equal": torch.le,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
}.items():
    OPERATIONS[_name] = partial(_binary, _call)
for _name, _call in {
    "reduce_mean": torch.mean,
    "reduce_sum": torch.sum,
    "reduce_max": torch.amax,
    "reduce_min": torch.amin,
    "reduce_log_sum_exp": torch.logsumexp,
    "reduce_l2_norm": lambda x, axes, keep: torch.sqrt(torch.sum(x * x, axes, keep)),
}.items():
    OPERATIONS[_name] = partial(_reduce, _call)
