"""One small graph for each operator (and each way to use it) that has a way to torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from ferryman.core.signature import Array, Signature
from ferryman.sources._onnx_graph import signature_of

_GENERATOR = np.random.default_rng(3)
MAX = 2**63 - 1


@dataclass(frozen=True)
class Const:
    """Be an input that the graph itself holds."""

    value: Array


@dataclass(frozen=True)
class Case:
    """Hold one node: its inputs in order (None: left out), attributes, outputs and opset."""

    op: str
    inputs: Sequence[Any]  # Array, Const or None
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 18
    outputs: int = 1
    tolerance: float = 1e-5

    @property
    def feed(self) -> dict[str, Array]:
        return {f"in{i}": value for i, value in enumerate(self.inputs) if isinstance(value, np.ndarray)}

    def __str__(self) -> str:
        words = ",".join(
            f"{key}={value}" for key, value in self.attributes.items() if isinstance(value, int | float | str | list)
        )
        return f"{self.op}-{self.opset}({words})"


def f(*shape: int, low: float = -2.0, high: float = 2.0) -> Array:
    return _GENERATOR.uniform(low, high, shape).astype(np.float32)


def i(*values: int) -> Const:
    return Const(np.array(values, dtype=np.int64))


def c(value: Any) -> Const:
    return Const(np.asarray(value, dtype=np.float32))


def case(op: str, *inputs: Any, opset: int = 18, outputs: int = 1, tolerance: float = 1e-5, **attributes: Any) -> Case:
    return Case(op, inputs, attributes, opset, outputs, tolerance)


def write(found: Case, path: Path) -> Signature:
    """Write the case's graph, with a dynamic first dimension, and give its signature."""
    import onnx

    names = [f"in{i}" if value is not None else "" for i, value in enumerate(found.inputs)]
    outputs = [f"out{i}" for i in range(found.outputs)]
    node = helper.make_node(found.op, names, outputs, name="the node", **found.attributes)
    constants = [
        numpy_helper.from_array(value.value, f"in{i}")
        for i, value in enumerate(found.inputs)
        if isinstance(value, Const)
    ]
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), _shape(value))
        for name, value in found.feed.items()
    ]
    kept = found.op == "GroupNormalization"  # onnx infers nothing for it
    blank = (
        [helper.make_tensor_value_info(outputs[0], TensorProto.FLOAT, _shape(found.inputs[0]))]
        if kept
        else [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs]
    )
    graph = helper.make_graph([node], "case", inputs, blank, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", found.opset)], ir_version=10)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    save(model, path)
    return signature_of(model)


def _shape(value: Array) -> list[Any]:
    return ["batch", *value.shape[1:]] if value.ndim and value.shape[0] == 2 else list(value.shape)


_IMAGE = f(2, 4, 9, 7)
_ROWS = f(2, 6, 5)
_WHOLE = _GENERATOR.integers(-9, 9, (2, 6)).astype(np.int64)
_BITS = _GENERATOR.random((2, 6)) > 0.5
_PERMUTED = np.stack([_GENERATOR.permutation(30).reshape(6, 5) for _ in range(2)]).astype(np.float32)

_UNARY = [
    *(case(op, _ROWS) for op in ("Abs", "Neg", "Exp", "Erf", "Floor", "Ceil", "Round", "Sign", "Sigmoid", "Relu")),
    *(case(op, _ROWS) for op in ("Tanh", "Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Asinh", "Softplus", "Softsign")),
    *(case(op, _ROWS) for op in ("Identity", "LeakyRelu", "Elu", "Celu", "Selu", "ThresholdedRelu", "Shrink", "IsNaN")),
    *(case(op, _ROWS) for op in ("HardSigmoid", "HardSwish", "Mish", "Dropout", "Softmax", "LogSoftmax", "Hardmax")),
    *(case(op, f(2, 5, low=0.1, high=0.9)) for op in ("Sqrt", "Log", "Reciprocal", "Asin", "Acos", "Atanh")),
    case("Acosh", f(2, 5, low=1.1, high=4)),
    case("Round", np.array([[0.5, 1.5, 2.5, -0.5, -1.5]] * 2, np.float32)),
    case("IsInf", np.array([[np.inf, -np.inf, 1], [0, np.nan, np.inf]], np.float32), detect_negative=0, opset=20),
    case("LeakyRelu", _ROWS, alpha=0.3),
    case("Elu", _ROWS, alpha=0.4),
    case("Celu", _ROWS, alpha=0.4),
    case("Selu", _ROWS, alpha=1.5, gamma=0.7),
    case("HardSigmoid", _ROWS, alpha=1 / 6),
    case("Shrink", _ROWS, bias=0.2, lambd=1.0),
    case("Gelu", _ROWS, opset=20),
    case("Gelu", _ROWS, approximate="tanh", opset=20),
    case("Swish", _ROWS, alpha=1.3, opset=24),
    case("PRelu", _IMAGE, Const(f(4, 1, 1))),
    case("Not", _BITS),
    case("BitwiseNot", _WHOLE),
    case("Cast", _ROWS, to=TensorProto.INT32),
    case("Cast", _WHOLE, to=TensorProto.FLOAT),
    case("Cast", _ROWS, to=TensorProto.BOOL),
    case("CastLike", _WHOLE, f(1)),
    case("Clip", _ROWS, c(-0.5), c(0.5)),
    case("Clip", _ROWS, None, c(0.5)),
    case("Clip", _ROWS, np.array(0.1, np.float32), None),
    case("Clip", _ROWS, min=-1.0, max=0.3, opset=9),
    case("Clip", _ROWS, min=0.0, opset=9),
]
_BINARY = [
    *(case(op, _ROWS, f(5)) for op in ("Add", "Sub", "Mul", "Div", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")),
    *(case(op, _BITS, ~_BITS) for op in ("And", "Or", "Xor")),
    *(case(op, _WHOLE, _WHOLE[::-1].copy()) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor", "Equal")),
    *(case(op, _ROWS, f(2, 6, 5), f(1, 1, 5)) for op in ("Min", "Max", "Sum", "Mean")),
    case("Div", _WHOLE, Const(np.array([3, -4, 2, 5, -1, 7]))),
    case("Mod", _WHOLE, Const(np.array([3, -4, 2, 5, -1, 7]))),
    case("Mod", _ROWS, c(0.7), fmod=1),
    case("Pow", f(2, 5, low=0.1, high=3), c(2.0)),
    case("Pow", f(2, 5), Const(np.array(3, np.int64))),
    case("Where", _BITS, f(2, 6), f(1)),
]
_LAYERS = [
    case("Conv", _IMAGE, Const(f(6, 4, 3, 3)), Const(f(6)), pads=[1, 1, 1, 1]),
    case("Conv", _IMAGE, Const(f(6, 4, 3, 3)), pads=[0, 1, 2, 1], strides=[2, 2]),
    case("Conv", _IMAGE, Const(f(8, 1, 3, 3)), group=4, dilations=[2, 1], pads=[2, 2, 2, 2]),
    case("Conv", _IMAGE, Const(f(6, 4, 3, 3)), auto_pad="SAME_UPPER", strides=[2, 2]),
    case("Conv", _IMAGE, Const(f(6, 4, 2, 2)), auto_pad="SAME_LOWER"),
    case("Conv", _IMAGE, Const(f(6, 4, 3, 3)), auto_pad="VALID"),
    case("Conv", _ROWS, Const(f(3, 6, 3)), pads=[1, 1]),
    case("Conv", f(2, 2, 4, 5, 6), Const(f(3, 2, 3, 3, 3)), tolerance=1e-4),
    case("Conv", _IMAGE, f(6, 4, 3, 3)),
    case("ConvTranspose", _IMAGE, Const(f(4, 3, 3, 3)), Const(f(3)), strides=[2, 2], tolerance=1e-4),
    case("ConvTranspose", _IMAGE, Const(f(4, 3, 3, 3)), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    case("ConvTranspose", _IMAGE, Const(f(4, 3, 3, 3)), strides=[2, 2], pads=[0, 1, 1, 0], output_padding=[1, 0]),
    case("ConvTranspose", _IMAGE, Const(f(4, 3, 3, 3)), strides=[2, 2], output_shape=[18, 14]),
    case("ConvTranspose", _IMAGE, Const(f(4, 3, 3, 3)), strides=[2, 2], auto_pad="SAME_UPPER"),
    case("ConvTranspose", _IMAGE, Const(f(4, 3, 3, 3)), auto_pad="VALID", tolerance=1e-4),
    case("ConvTranspose", _IMAGE, Const(f(4, 2, 3, 3)), group=2, dilations=[2, 2]),
    case("ConvTranspose", _ROWS, Const(f(6, 3, 4)), strides=[2]),
    case("MaxPool", _IMAGE, kernel_shape=[2, 2], strides=[2, 2]),
    case("MaxPool", _IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1),
    case("MaxPool", _IMAGE, kernel_shape=[3, 3], pads=[0, 0, 1, 1], dilations=[2, 2]),
    case("MaxPool", _IMAGE, kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
    case("MaxPool", _ROWS, kernel_shape=[3]),
    case("MaxPool", f(2, 2, 4, 5, 6), kernel_shape=[2, 2, 2]),
    case("AveragePool", _IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    case("AveragePool", _IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1, strides=[2, 2]),
    case("AveragePool", _IMAGE, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    case("AveragePool", _IMAGE, kernel_shape=[3, 3], pads=[0, 0, 1, 1]),
    case("AveragePool", _IMAGE, kernel_shape=[3, 3], pads=[0, 0, 1, 1], count_include_pad=1),
    case("AveragePool", _IMAGE, kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
    case("GlobalAveragePool", _IMAGE),
    case("GlobalMaxPool", _IMAGE),
    case("Gemm", f(2, 6), Const(f(6, 3)), Const(f(3))),
    case("Gemm", f(2, 6), Const(f(3, 6)), Const(f(3)), transB=1),
    case("Gemm", f(6, 2), Const(f(3, 6)), Const(f(1, 3)), transA=1, transB=1, alpha=0.5, beta=2.0),
    case("Gemm", f(2, 6), Const(f(6, 3)), alpha=0.5),
    case("MatMul", _ROWS, Const(f(5, 3))),
    case("MatMul", f(2, 3, 4, 5), f(2, 3, 5, 6)),
    case("Einsum", _ROWS, f(2, 5, 3), equation="b i j, b j k -> b i k"),
    case("BatchNormalization", _IMAGE, *(Const(f(4, low=0.2)) for _ in range(4)), epsilon=1e-3),
    case("LayerNormalization", _ROWS, Const(f(5)), Const(f(5))),
    case("LayerNormalization", _ROWS, Const(f(6, 5)), axis=1, epsilon=1e-3),
    case("LayerNormalization", _ROWS, Const(f(1)), Const(f(5))),
    case("RMSNormalization", _ROWS, Const(f(5)), opset=23),
    case("InstanceNormalization", _IMAGE, Const(f(4)), Const(f(4)), tolerance=1e-4),
    case("GroupNormalization", _IMAGE, Const(f(2)), Const(f(2)), num_groups=2, tolerance=1e-4),
    case("GroupNormalization", _IMAGE, Const(f(4)), Const(f(4)), num_groups=2, opset=21, tolerance=1e-4),
    case("LRN", _IMAGE, size=3, alpha=0.1),
    case("LpNormalization", _ROWS, axis=1),
    case("LpNormalization", _ROWS, p=1),
    case("Softmax", _ROWS, axis=1),
    case("Softmax", _ROWS, opset=11),
    case("LogSoftmax", _ROWS, axis=2, opset=11),
    case("Hardmax", _ROWS, axis=1),
]
_SHAPES = [
    case("Shape", _ROWS),
    case("Shape", _ROWS, start=1, end=-1),
    case("Size", _ROWS),
    case("Reshape", _ROWS, i(0, -1)),
    case("Reshape", _ROWS, i(-1, 10, 3)),
    case("Flatten", _IMAGE),
    case("Flatten", _IMAGE, axis=2),
    case("Flatten", _IMAGE, axis=-1),
    case("Flatten", _IMAGE, axis=0),
    case("Squeeze", f(2, 1, 3, 1), i(1, -1)),
    case("Squeeze", f(2, 1, 3, 1), axes=[1], opset=11),
    case("Squeeze", f(3, 1, 4, 1)),
    case("Unsqueeze", _ROWS, i(0, -1)),
    case("Unsqueeze", _ROWS, axes=[1, 3], opset=11),
    case("Transpose", _IMAGE, perm=[0, 2, 3, 1]),
    case("Transpose", _ROWS),
    case("Expand", f(2, 1, 3), i(1, 4, 1)),
    case("Expand", f(3), i(2, 3)),
    case("Concat", _ROWS, f(2, 2, 5), axis=1),
    case("Split", _ROWS, i(1, 2, 3), axis=1, outputs=3),
    case("Split", _ROWS, axis=1, num_outputs=4, outputs=3),
    case("Split", _ROWS, axis=1, outputs=2, opset=13),
    case("Split", _ROWS, axis=1, split=[2, 4], outputs=2, opset=11),
    case("Slice", _IMAGE, i(1, 0), i(3, MAX), i(1, 3)),
    case("Slice", _IMAGE, i(-3), i(-1), i(-1)),
    case("Slice", _IMAGE, i(0), i(MAX), i(2), i(2)),
    case("Slice", _IMAGE, i(-1), i(-MAX), i(2), i(-1)),
    case("Slice", _IMAGE, i(7), i(1), i(2), i(-2)),
    case("Slice", _IMAGE, i(-1), i(-MAX), i(0), i(-1)),
    case("Slice", _IMAGE, i(0, 1), i(1, 3)),
    case("Slice", _IMAGE, starts=[1], ends=[3], axes=[1], opset=9),
    case("Tile", _ROWS, i(1, 2, 3)),
    case("ConstantOfShape", np.array([2, 3], np.int64), value=helper.make_tensor("v", TensorProto.FLOAT, [1], [2.5])),
    case("DepthToSpace", f(2, 8, 3, 4), blocksize=2),
    case("DepthToSpace", f(2, 8, 3, 4), blocksize=2, mode="CRD"),
    case("SpaceToDepth", f(2, 3, 4, 6), blocksize=2),
    case("Pad", _IMAGE, i(0, 0, 1, 2, 0, 0, 3, 0)),
    case("Pad", _IMAGE, i(0, 1, 0, 0, 0, 0, 0, 0), c(0.5)),
    case("Pad", _IMAGE, i(1, -2, 2, -1), None, i(2, 3)),
    case("Pad", _IMAGE, i(0, 0, 2, 1, 0, 0, 1, 3), mode="reflect"),
    case("Pad", _IMAGE, i(0, 1, 2, 0, 0, 0, 1, 3), mode="edge"),
    case("Pad", _IMAGE, i(0, 0, 2, 1, 0, 0, 1, 3), mode="wrap", opset=19),
    case("Pad", _IMAGE, pads=[0, 0, 1, 1, 0, 0, 1, 1], value=2.0, opset=9),
]
_REDUCTIONS = [
    *(
        case(f"Reduce{kind}", f(2, 6, 5, low=0.2), i(1), keepdims=keep)
        for kind in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp")
        for keep in (0, 1)
    ),
    case("ReduceMean", _IMAGE, axes=[2, 3], keepdims=0, opset=13),
    case("ReduceProd", _IMAGE, i(1, 2), keepdims=0),
    case("ReduceSum", _WHOLE, i(-1)),
    case("ReduceMax", _ROWS, keepdims=0),
    case("ReduceSum", _ROWS, noop_with_empty_axes=1),
    case("ArgMax", _PERMUTED, axis=1),
    case("ArgMin", _PERMUTED, axis=-1, keepdims=0),
    case("ArgMax", np.array([[1, 3, 3], [2, 2, 1]], np.float32), axis=1),
    case("ArgMax", np.array([[1, 3, 3], [2, 2, 1]], np.float32), axis=1, select_last_index=1),
]
_SELECT = [
    case("Gather", _ROWS, i(2, 0, -1), axis=1),
    case("Gather", _ROWS, Const(np.array(-2)), axis=1),
    case("Gather", Const(f(9, 4)), np.array([[1, 8], [-1, 0]], np.int64)),
    case("Gather", _ROWS, Const(np.array([[0, 1], [4, -5]])), axis=2),
    case("GatherElements", _ROWS, _GENERATOR.integers(-6, 6, (2, 3, 5)), axis=1),
    case("GatherND", _ROWS, Const(np.array([[0, 1], [1, -1]]))),
    case("GatherND", _ROWS, _GENERATOR.integers(0, 5, (2, 3, 2)), batch_dims=1),
    case("ScatterND", _ROWS, Const(np.array([[0, 1], [1, -1]])), Const(f(2, 5))),
    case("ScatterND", _ROWS, Const(np.array([[0, 1], [0, 1]])), Const(f(2, 5)), reduction="add"),
    case("ScatterElements", _ROWS, Const(np.full((2, 1, 5), -1)), Const(f(2, 1, 5)), axis=1),
    case("ScatterElements", _ROWS, Const(np.full((2, 2, 5), 3)), Const(f(2, 2, 5)), axis=1, reduction="add"),
    case("ScatterElements", _ROWS, Const(np.full((2, 2, 5), 3)), Const(f(2, 2, 5)), axis=1, reduction="max"),
    case("TopK", _PERMUTED, i(3), axis=1, outputs=2),
    case("TopK", _PERMUTED, i(2), largest=0, outputs=2),
    case("TopK", np.array([[1, 3, 3, 3, 0], [2, 2, 2, 2, 2]], np.float32), i(3), outputs=2),
    case("CumSum", _ROWS, Const(np.array(1))),
    case("CumSum", _ROWS, Const(np.array(-1)), exclusive=1, reverse=1),
    case("OneHot", _WHOLE % 5, Const(np.array(5)), c([0.5, 2.0])),
    case("OneHot", _WHOLE % 5, i(5), c([0.0, 1.0]), axis=1),
    case("Trilu", f(2, 4, 4)),
    case("Trilu", f(2, 4, 5), Const(np.array(-1)), upper=0),
    case("GridSample", f(2, 3, 5, 5), f(2, 4, 4, 2, low=-1, high=1), mode="linear", align_corners=1, opset=20),
    case("GridSample", f(2, 3, 5, 5), f(2, 4, 4, 2), mode="nearest", padding_mode="border", opset=20),
]
_CENTRES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric")
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
_RESIZE = [
    *(
        case(
            "Resize",
            _IMAGE,
            None,
            c([1, 1, *scales]),
            opset=19,
            coordinate_transformation_mode=way,
            nearest_mode=rounding,
        )
        for way in _CENTRES
        for rounding in _ROUNDINGS[
            : 1 if way == "half_pixel_symmetric" else 4
        ]  # its middle lies just between the others
        for scales in ((2, 2), (0.6, 1.7))
    ),
    *(
        case(
            "Resize",
            _IMAGE,
            None,
            None,
            i(*sizes),
            axes=[2, 3],
            opset=19,
            coordinate_transformation_mode=way,
            mode="linear",
        )
        for way in _CENTRES
        for sizes in ((18, 14), (5, 11), (1, 1))
    ),
    case("Resize", _IMAGE, None, c([1, 1, 1.5, 0.7]), mode="linear"),
    case("Resize", _IMAGE, None, c([1, 1, 2, 2]), mode="cubic", tolerance=1e-4),
    case("Resize", _IMAGE, None, c([1, 1, 2, 2]), mode="cubic", coordinate_transformation_mode="align_corners"),
    case("Resize", _IMAGE, None, c([2, 3]), axes=[3, 2]),
    case("Resize", _ROWS, None, c([1, 1, 3]), mode="linear"),
    case("Resize", f(4, 6), None, c([2, 1.5])),
    case("Resize", _IMAGE, c([1, 1, 2, 2]), opset=10),
    case("Resize", _IMAGE, c([1, 1, 1.5, 2]), mode="linear", opset=10),
    case("Upsample", _IMAGE, c([1, 1, 2, 3]), opset=9),
    case("Upsample", _IMAGE, c([1, 1, 2, 2]), mode="linear", opset=9),
]
_SCALES = np.array([0.1, 0.02, 0.5, 0.3], np.float32)
_ZEROS = np.array([3, 128, 0, 77], np.uint8)
_LEVELS = _GENERATOR.integers(0, 255, (2, 4, 3)).astype(np.uint8)
_QUANTIZE = [
    case("QuantizeLinear", _IMAGE, c(0.05), Const(np.array(9, np.uint8))),
    case("QuantizeLinear", _IMAGE, Const(_SCALES), Const(_ZEROS), axis=1),
    case("QuantizeLinear", _IMAGE, c(0.05), Const(np.array(-3, np.int8))),
    case("QuantizeLinear", _IMAGE, c(0.05)),
    case("DequantizeLinear", _LEVELS, c(0.05), Const(np.array(9, np.uint8))),
    case("DequantizeLinear", _LEVELS, Const(_SCALES), Const(_ZEROS), axis=1),
    case("DequantizeLinear", _LEVELS.astype(np.int32), c(0.05)),
    case("DynamicQuantizeLinear", f(2, 6), outputs=3),
    case("MatMulInteger", _LEVELS, Const(_LEVELS[0, :3].view(np.int8)), Const(np.array(7, np.uint8))),
    case("ConvInteger", _LEVELS[:, :, :, None], Const(_LEVELS[:1, :, :1, None]), Const(np.array(9, np.uint8))),
]
_HOST = [case("Range", Const(np.array(0)), np.array(7), Const(np.array(2)))]

CASES = [*_UNARY, *_BINARY, *_LAYERS, *_SHAPES, *_REDUCTIONS, *_SELECT, *_RESIZE, *_QUANTIZE]
