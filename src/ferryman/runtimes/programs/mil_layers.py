"""Compute the layers of Core ML programs in torch: convolutions, pools, norms, products."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

Value = Any  # torch.Tensor, or what a constant holds: numpy values, text


def tensor(value: Value) -> Any:  # torch.Tensor
    """Give a value as a tensor, of float32 where it is a float."""
    tensor = value if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))
    return tensor.float() if tensor.dtype.is_floating_point else tensor


def ints(values: Value) -> list[int]:
    """Give a constant as a list of whole numbers."""
    return [int(value) for value in np.atleast_1d(np.asarray(values))]


def axes_of(x: Value, axes: Value) -> list[int]:
    """Give the dimensions that are named, or all."""
    return list(range(x.dim())) if axes is None else ints(axes)


def padded(x: Value, pads: list[int], value: float) -> Value:
    """Pad the last dimensions; `pads` are begin and end of each, the first of them first."""
    pairs = [pads[index : index + 2] for index in range(0, len(pads), 2)]
    return F.pad(x, [size for pair in reversed(pairs) for size in pair], value=value) if any(pads) else x


def _pads(
    x: Value, kernel: list[int], strides: list[int], dilations: list[int], pad_type: str, pad: Value
) -> list[int]:
    if pad_type == "custom":
        return ints(pad)
    if pad_type == "valid":
        return [0] * 2 * len(kernel)
    pads = []
    for size, width, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size, 0)
        less, more = total // 2, total - total // 2
        pads += [more, less] if pad_type == "same_lower" else [less, more]
    return pads


def conv(  # noqa: PLR0913 - the operation's own inputs
    x: Value,
    weight: Value,
    bias: Value = None,
    *,
    strides: Value = None,
    pad_type: str = "valid",
    pad: Value = None,
    dilations: Value = None,
    groups: int = 1,
) -> Value:
    """Convolve over one to three dimensions."""
    kernel = tensor(weight)
    ones = [1] * (x.dim() - 2)
    strides, dilations = ints(ones if strides is None else strides), ints(ones if dilations is None else dilations)
    x = padded(x, _pads(x, list(kernel.shape[2:]), strides, dilations, str(pad_type), pad), 0.0)
    call = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[x.dim()]
    return call(x, kernel, None if bias is None else tensor(bias), strides, 0, dilations, int(groups))


def conv_transpose(  # noqa: PLR0913 - the operation's own inputs
    x: Value,
    weight: Value,
    bias: Value = None,
    *,
    strides: Value = None,
    pad_type: str = "valid",
    pad: Value = None,
    dilations: Value = None,
    groups: int = 1,
    output_shape: Value = None,
) -> Value:
    """Convolve transposed, over one to three dimensions."""
    kernel, ones = tensor(weight), [1] * (x.dim() - 2)
    strides, dilations = ints(ones if strides is None else strides), ints(ones if dilations is None else dilations)
    if str(pad_type) not in ("valid", "custom"):
        raise Refused(f"this package can't be verified here: conv_transpose with padding '{pad_type}'")
    pads = ints(pad) if str(pad_type) == "custom" else [0] * 2 * len(ones)
    call = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}[x.dim()]
    y = call(x, kernel, None if bias is None else tensor(bias), strides, 0, 0, int(groups), dilations)
    whole = [] if output_shape is None else ints(output_shape)[2:]
    for index in range(len(ones)):
        wanted = whole[index] if whole else y.shape[2 + index] - pads[2 * index] - pads[2 * index + 1]
        y = F.pad(y, _only(len(ones), index, max(pads[2 * index] + wanted - y.shape[2 + index], 0)))
        y = y.narrow(2 + index, pads[2 * index], wanted)
    return y


def _only(dimensions: int, index: int, end: int) -> list[int]:
    """Give torch's padding that adds `end` zeros behind one dimension."""
    return [end if place == 2 * (dimensions - 1 - index) + 1 else 0 for place in range(2 * dimensions)]


def pool(  # noqa: PLR0913 - the operation's own inputs
    kind: str,
    x: Value,
    kernel_sizes: Value,
    *,
    strides: Value = None,
    pad_type: str = "valid",
    pad: Value = None,
    ceil_mode: Value = False,
    exclude_padding_from_average: Value = False,
) -> Value:
    """Pool by maximum or mean over one to three dimensions."""
    kernel = ints(kernel_sizes)
    strides = ints([1] * len(kernel) if strides is None else strides)
    pads = _pads(x, kernel, strides, [1] * len(kernel), str(pad_type), pad)
    ceil = bool(ceil_mode)
    if kind == "max":
        call = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}[x.dim()]
        return call(padded(x, pads, -torch.inf), kernel, strides, ceil_mode=ceil)
    call = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}[x.dim()]
    mean = call(padded(x, pads, 0.0), kernel, strides, ceil_mode=ceil)
    if not exclude_padding_from_average:
        return mean
    return mean / call(padded(torch.ones_like(x), pads, 0.0), kernel, strides, ceil_mode=ceil)


def batch_norm(
    x: Value, mean: Value, variance: Value, gamma: Value = None, beta: Value = None, epsilon: float = 1e-5
) -> Value:
    """Normalize with a stored mean and variance."""
    scale, shift = (None if part is None else tensor(part) for part in (gamma, beta))
    return F.batch_norm(x, tensor(mean), tensor(variance), scale, shift, eps=float(epsilon))


def instance_norm(x: Value, gamma: Value = None, beta: Value = None, epsilon: float = 1e-5) -> Value:
    """Normalize each channel of each picture."""
    scale, shift = (None if part is None else tensor(part) for part in (gamma, beta))
    return F.instance_norm(x, weight=scale, bias=shift, eps=float(epsilon))


def layer_norm(x: Value, axes: Value = None, gamma: Value = None, beta: Value = None, epsilon: float = 1e-5) -> Value:
    """Normalize over some dimensions."""
    over = [axis % x.dim() for axis in axes_of(x, axes)]
    centred = x - x.mean(over, keepdim=True)
    y = centred / torch.sqrt((centred * centred).mean(over, keepdim=True) + float(epsilon))
    shape = [size if axis in over else 1 for axis, size in enumerate(x.shape)]
    y = y if gamma is None else y * tensor(gamma).reshape(shape)
    return y if beta is None else y + tensor(beta).reshape(shape)


def linear(x: Value, weight: Value, bias: Value = None) -> Value:
    """Multiply by a matrix and add a bias."""
    return F.linear(x, tensor(weight), None if bias is None else tensor(bias))


def matmul(x: Value, y: Value, transpose_x: Value = False, transpose_y: Value = False) -> Value:
    """Multiply matrices."""
    left, right = tensor(x), tensor(y)
    left = left.transpose(-1, -2) if transpose_x else left
    return torch.matmul(left, right.transpose(-1, -2) if transpose_y else right)


def attention(query: Value, key: Value, value: Value, attn_mask: Value = None) -> Value:
    """Attend, scaled by the size of the keys."""
    mask = None if attn_mask is None else tensor(attn_mask)
    return F.scaled_dot_product_attention(tensor(query), tensor(key), tensor(value), attn_mask=mask)


def gelu(x: Value, mode: str = "EXACT") -> Value:
    """Give the GELU, exact or approximated."""
    if str(mode) == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if "TANH" in str(mode) else "none")
