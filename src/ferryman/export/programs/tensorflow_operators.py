"""ONNX's operators in TensorFlow's. Runs in a Python of TensorFlow's own."""

from typing import Any

import numpy as np
import tensorflow as tf
from onnx import helper, numpy_helper
from tensorflow_values import (
    Known,
    Node,
    Tensor,
    Unknown,
    Value,
    concat,
    each,
    numbers,
    on_axes,
    on_pictures,
    pairs,
    plain_of,
    reduce,
)

_SAME = ("SAME_UPPER", "SAME_LOWER")


def _window(node: Node, picture: Tensor, kernel: "list[int]") -> "tuple[list[int], list[int], list[tuple[int, int]]]":
    """Give strides, dilations and what is padded before and after, for height and width."""
    strides, dilations = (list(node.get(name, [1, 1])) for name in ("strides", "dilations"))
    pads = list(node.get("pads", [0, 0, 0, 0]))
    around = [(pads[side], pads[side + 2]) for side in (0, 1)]
    sizes = picture.shape[1:3]
    reach = [dilation * (size - 1) + 1 for dilation, size in zip(dilations, kernel, strict=True)]
    if node.get("auto_pad", "NOTSET") in _SAME:
        total = [
            max((-(-size // stride) - 1) * stride + wide - size, 0)
            for size, stride, wide in zip(sizes, strides, reach, strict=True)
        ]
        is_upper = node.get("auto_pad") == "SAME_UPPER"
        around = [(one // 2, one - one // 2) if is_upper else (one - one // 2, one // 2) for one in total]
    if node.get("ceil_mode", 0):
        around = [
            (before, after + (wide - size - before - after) % stride if stride > 1 else after)
            for (before, after), size, wide, stride in zip(around, sizes, reach, strides, strict=True)
        ]
    return strides, dilations, around


def _padded(picture: Tensor, around: "list[tuple[int, int]]", fill: float = 0.0) -> Tensor:
    if not any(before or after for before, after in around):
        return picture
    return tf.pad(picture, [(0, 0), *around, (0, 0)], constant_values=fill)


def _conv(node: Node, picture: Tensor, weights: Known, bias: Known = None) -> Tensor:
    if not isinstance(weights, np.ndarray) or weights.ndim != 4:
        raise Unknown("its weights are computed by the model, or not for pictures")
    groups, outer = node.get("group", 1), weights.shape[0]
    strides, dilations, around = _window(node, picture, list(weights.shape[2:]))
    padded = _padded(picture, around)
    kernel = np.transpose(weights, (2, 3, 1, 0))  # height, width, in, out
    if groups == 1:
        made = tf.nn.conv2d(padded, kernel, strides, "VALID", dilations=dilations)
    elif groups == picture.shape[3] and len(set(strides)) == 1:
        deep = np.reshape(np.transpose(kernel, (0, 1, 3, 2)), (*kernel.shape[:2], groups, outer // groups))
        made = tf.nn.depthwise_conv2d(padded, deep, [1, *strides, 1], "VALID", dilations=dilations)
    else:
        parts = zip(tf.split(padded, groups, 3), np.split(kernel, groups, 3), strict=True)
        made = tf.concat([tf.nn.conv2d(one, own, strides, "VALID", dilations=dilations) for one, own in parts], 3)
    return made if bias is None else tf.nn.bias_add(made, bias)


def _conv_transpose(node: Node, picture: Tensor, weights: Known, bias: Known = None) -> Tensor:
    strides, dilations, around = _window(node, picture, list(weights.shape[2:]))
    more = node.get("output_padding", [0, 0])
    if node.get("group", 1) != 1 or set(dilations) != {1} or node.get("auto_pad", "NOTSET") != "NOTSET":
        raise Unknown("it has groups, dilations or sizes of its own")
    kernel = np.transpose(weights, (2, 3, 1, 0))  # height, width, out, in
    full = [
        (size - 1) * stride + wide
        for size, stride, wide in zip(picture.shape[1:3], strides, weights.shape[2:], strict=True)
    ]
    shape = [tf.shape(picture)[0], *full, weights.shape[1]]
    made = tf.nn.conv2d_transpose(picture, kernel, shape, strides, "VALID")
    made = _padded(made, [(0, extra) for extra in more])
    (top, bottom), (left, right) = around
    made = made[:, top : full[0] + more[0] - bottom, left : full[1] + more[1] - right, :]
    return made if bias is None else tf.nn.bias_add(made, bias)


def _max_pool(node: Node, picture: Tensor) -> Tensor:
    kernel = list(node.get("kernel_shape"))
    strides, dilations, around = _window(node, picture, kernel)
    padded = _padded(picture, around, picture.dtype.min)
    return (
        tf.nn.pool(padded, kernel, "MAX", strides, "VALID", dilations=dilations)
        if max(dilations) > 1
        else (tf.nn.max_pool2d(padded, kernel, strides, "VALID"))
    )


def _average_pool(node: Node, picture: Tensor) -> Tensor:
    kernel = list(node.get("kernel_shape"))
    strides, _, around = _window(node, picture, kernel)
    made = tf.nn.avg_pool2d(_padded(picture, around), kernel, strides, "VALID")
    if node.get("count_include_pad", 0) or not any(map(any, around)):
        return made
    ones = _padded(tf.ones([1, *picture.shape[1:3], 1]), around)
    return made / tf.nn.avg_pool2d(ones, kernel, strides, "VALID")


def _normalize(node: Node, picture: Tensor, *constants: Known) -> Tensor:
    scale, shift, mean, variance = constants
    factor = scale / np.sqrt(variance + node.get("epsilon", 1e-5))
    return picture * factor + (shift - mean * factor)


def _resize(node: Node, picture: Tensor, roi: Any = None, scales: Any = None, sizes: Any = None) -> Tensor:
    if sizes is not None and np.size(sizes):
        size = numbers(sizes)[2:]
    else:
        size = [int(side * scale) for side, scale in zip(picture.shape[1:3], np.asarray(scales)[2:], strict=True)]
    mode, how = node.get("mode", "nearest"), node.get("coordinate_transformation_mode", "half_pixel")
    aligned, half = how == "align_corners", how in ("half_pixel", "pytorch_half_pixel")
    if mode == "nearest":
        times = [new / old for new, old in zip(size, picture.shape[1:3], strict=True)]
        if any(one != int(one) for one in times):
            raise Unknown("it enlarges by something else than whole times")
        return tf.raw_ops.ResizeNearestNeighbor(images=picture, size=size)
    if mode == "linear" and (aligned or half or how == "asymmetric"):
        return tf.raw_ops.ResizeBilinear(images=picture, size=size, align_corners=aligned, half_pixel_centers=half)
    raise Unknown(f"mode {mode}, {how}")


def _depth_to_space(node: Node, picture: Tensor) -> Tensor:
    size, depth = node.get("blocksize"), picture.shape[3]
    if node.get("mode", "DCR") == "CRD":  # the block's place comes last there, and first in TensorFlow
        order = np.arange(depth).reshape(depth // size**2, size**2).T.reshape(-1)
        picture = tf.gather(picture, order, axis=3)
    return tf.nn.depth_to_space(picture, size)


def _slice(node: Node, value: Tensor, *given: Any) -> Tensor:
    found: list[Any] = [node.get(name) for name in ("starts", "ends", "axes", "steps")]
    for place, one in enumerate(given):
        found[place] = None if one is None else numbers(one)
    starts, ends, axes, steps = found
    cut = [slice(None)] * value.shape.rank
    for place, axis in enumerate(axes or range(len(starts))):
        step = (steps or [1] * len(starts))[place]
        first, last = (None if abs(end) >= 2**31 - 1 else end for end in (starts[place], ends[place]))
        cut[axis] = slice(first, last, step)
    return value[tuple(cut)]


def _split(node: Node, value: Tensor, sizes: Any = None) -> "list[Tensor]":
    parts = numbers(sizes) if sizes is not None else node.get("split")
    return list(tf.split(value, parts or len(node.outputs), node.get("axis", 0)))


def _reshape(node: Node, value: Tensor, shape: Any) -> Tensor:
    wanted = shape.plain if isinstance(shape, Value) else shape
    held = tf.get_static_value(wanted) if isinstance(shape, Value) else wanted
    if held is None:
        return tf.reshape(value, tf.cast(wanted, tf.int32))
    there = tf.shape(value)
    sizes = [there[axis] if size == 0 and not node.get("allowzero", 0) else int(size) for axis, size in enumerate(held)]
    return tf.reshape(value, sizes)


def _flatten(node: Node, value: Tensor) -> Tensor:
    axis, sizes = node.get("axis", 1), tf.shape(value)
    if axis == 1 and None not in value.shape[1:]:
        return tf.reshape(value, [-1, int(np.prod(value.shape[1:]))])
    return tf.reshape(value, [tf.reduce_prod(sizes[:axis]), tf.reduce_prod(sizes[axis:])])


def _squeeze(node: Node, value: Tensor, axes: Any = None) -> Tensor:
    return tf.squeeze(value, numbers(axes) if axes is not None else node.get("axes"))


def _unsqueeze(node: Node, value: Tensor, axes: Any = None) -> Tensor:
    along = numbers(axes) if axes is not None else node.get("axes")
    for axis in sorted(one % (value.shape.rank + len(along)) for one in along):
        value = tf.expand_dims(value, axis)
    return value


def _gemm(node: Node, left: Tensor, right: Any, shift: Any = None) -> Tensor:
    second = right.plain if isinstance(right, Value) else right
    made = tf.matmul(left, second, transpose_a=bool(node.get("transA", 0)), transpose_b=bool(node.get("transB", 0)))
    made = made * node.get("alpha", 1.0)
    added = shift.plain if isinstance(shift, Value) else shift
    return made if shift is None else made + added * node.get("beta", 1.0)


def _clip(node: Node, value: Tensor, low: Any = None, high: Any = None) -> Tensor:
    for bound, attribute, limit in ((low, "min", tf.maximum), (high, "max", tf.minimum)):
        given = node.get(attribute) if bound is None else np.asarray(bound)
        value = value if given is None else limit(value, tf.cast(given, value.dtype))
    return value


def _pad(node: Node, value: Tensor, pads: Any = None, fill: Any = None) -> Tensor:
    ends = numbers(pads) if pads is not None else node.get("pads")
    half = len(ends) // 2
    around = list(zip(ends[:half], ends[half:], strict=True))
    modes = {"constant": "CONSTANT", "reflect": "REFLECT"}
    filling = float(np.asarray(fill).reshape(-1)[0]) if fill is not None and np.size(fill) else node.get("value", 0.0)
    return tf.pad(value, around, modes[node.get("mode", "constant")], constant_values=filling)


def _constant(node: Node) -> Known:
    return numpy_helper.to_array(node.get("value"))


def _cast(node: Node, value: Tensor) -> Tensor:
    return tf.cast(value, helper.tensor_dtype_to_np_dtype(node.get("to")))


def _prelu(left: Tensor, slope: Tensor) -> Tensor:
    return tf.maximum(left, 0) + slope * tf.minimum(left, 0)


def _hard_sigmoid(node: Node, value: Tensor) -> Tensor:
    return tf.clip_by_value(value * node.get("alpha", 0.2) + node.get("beta", 0.5), 0, 1)


def _matmul(left: Tensor, right: Tensor) -> Tensor:
    return tf.matmul(left, right)


def _plainly(compute: Any) -> Any:
    """Make an operator of two tensors whose axes are ONNX's."""
    return lambda node, *values: Value(compute(*map(plain_of, values)))


OPERATORS: "dict[str, Any]" = {
    "Conv": on_pictures(_conv),
    "ConvTranspose": on_pictures(_conv_transpose),
    "MaxPool": on_pictures(_max_pool),
    "AveragePool": on_pictures(_average_pool),
    "GlobalAveragePool": on_pictures(lambda node, value: tf.reduce_mean(value, [1, 2], keepdims=True)),
    "GlobalMaxPool": on_pictures(lambda node, value: tf.reduce_max(value, [1, 2], keepdims=True)),
    "BatchNormalization": on_pictures(_normalize),
    "Resize": on_pictures(_resize),
    "DepthToSpace": on_pictures(_depth_to_space),
    "Relu": each(lambda node, value: tf.nn.relu(value)),
    "LeakyRelu": each(lambda node, value: tf.nn.leaky_relu(value, node.get("alpha", 0.01))),
    "Sigmoid": each(lambda node, value: tf.sigmoid(value)),
    "HardSigmoid": each(_hard_sigmoid),
    "HardSwish": each(lambda node, value: value * tf.nn.relu6(value + 3) / 6),
    "Tanh": each(lambda node, value: tf.tanh(value)),
    "Exp": each(lambda node, value: tf.exp(value)),
    "Log": each(lambda node, value: tf.math.log(value)),
    "Sqrt": each(lambda node, value: tf.sqrt(value)),
    "Erf": each(lambda node, value: tf.math.erf(value)),
    "Abs": each(lambda node, value: tf.abs(value)),
    "Neg": each(lambda node, value: -value),
    "Reciprocal": each(lambda node, value: 1 / value),
    "Clip": each(_clip),
    "Cast": each(_cast),
    "Identity": each(lambda node, value: tf.identity(value)),
    "Dropout": each(lambda node, value, *more: tf.identity(value)),
    "Add": pairs(tf.add),
    "Sub": pairs(tf.subtract),
    "Mul": pairs(tf.multiply),
    "Div": pairs(tf.divide),
    "Pow": pairs(tf.pow),
    "Min": pairs(tf.minimum),
    "Max": pairs(tf.maximum),
    "Sum": pairs(tf.add),
    "PRelu": pairs(_prelu),
    "Concat": concat,
    "Split": on_axes(_split),
    "Slice": on_axes(_slice),
    "Reshape": on_axes(_reshape),
    "Flatten": on_axes(_flatten),
    "Transpose": on_axes(lambda node, value: tf.transpose(value, node.get("perm"))),
    "Squeeze": on_axes(_squeeze),
    "Unsqueeze": on_axes(_unsqueeze),
    "Pad": on_axes(_pad),
    "Softmax": on_axes(lambda node, value: tf.nn.softmax(value, node.get("axis", -1))),
    "Gather": on_axes(lambda node, value, places: tf.gather(value, np.asarray(places), axis=node.get("axis", 0))),
    "Gemm": on_axes(_gemm),
    "MatMul": _plainly(_matmul),
    "ReduceMean": reduce(tf.reduce_mean),
    "ReduceSum": reduce(tf.reduce_sum),
    "ReduceMax": reduce(tf.reduce_max),
    "ReduceMin": reduce(tf.reduce_min),
    "Constant": lambda node: _constant(node),
}
