"""ONNX operators in torch: one element at a time, and casts."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch.nn import functional

from ferryman.core.signature import Array
from ferryman.export._torch.node import Node, Op, Result, Tensor, Unsupported, Value, is_host, number, plain

_DTYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 4: torch.uint16, 5: torch.int16, 6: torch.int32, 7: torch.int64,
    9: torch.bool, 10: torch.float16, 11: torch.float64, 12: torch.uint32, 13: torch.uint64, 16: torch.bfloat16,
}  # fmt: skip


def torch_dtype(kind: int) -> Any:  # torch.dtype
    """Give torch's dtype of an ONNX element type."""
    if kind not in _DTYPES:
        raise Unsupported(f"it uses ONNX's element type {kind}, which torch doesn't compute with")
    return _DTYPES[kind]


def _folded(function: Callable[..., Tensor]) -> Op:
    """Make an operator of any number of inputs from a function of two."""
    return plain(lambda *values: reduce(function, values))


def _divide(left: Tensor, right: Tensor) -> Tensor:
    return torch.div(left, right, rounding_mode=None if left.is_floating_point() else "trunc")


def _mod(node: Node, left: Tensor, right: Tensor) -> Tensor:
    return torch.fmod(left, right) if node.get("fmod", 0) else torch.remainder(left, right)


def _power(left: Tensor, right: Tensor) -> Tensor:
    return torch.pow(left, right).to(left.dtype)


def _clip(node: Node, value: Tensor, low: Value = None, high: Value = None) -> Tensor:
    given = (node.get("min") if low is None else low, node.get("max") if high is None else high)
    bounds = [number(bound) if is_host(bound) else bound for bound in given]
    if bounds == [None, None]:
        return value
    if not any(isinstance(bound, torch.Tensor) for bound in bounds):
        return torch.clamp(value, *bounds)
    return torch.clamp(
        value, *(None if bound is None else torch.as_tensor(bound, dtype=value.dtype) for bound in bounds)
    )


def _hard_sigmoid(node: Node, value: Tensor) -> Tensor:
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        return functional.hardsigmoid(value)
    return torch.clamp(alpha * value + beta, 0.0, 1.0)


def _selu(node: Node, value: Tensor) -> Tensor:
    alpha, gamma = node.get("alpha", 1.6732632), node.get("gamma", 1.0507009)
    return gamma * functional.elu(value, alpha)


def _swish(node: Node, value: Tensor) -> Tensor:
    return value * torch.sigmoid(node.get("alpha", 1.0) * value)


def _shrink(node: Node, value: Tensor) -> Tensor:
    bias, bound = node.get("bias", 0.0), node.get("lambd", 0.5)
    nothing = torch.zeros_like(value)
    return torch.where(value < -bound, value + bias, torch.where(value > bound, value - bias, nothing))


def _gelu(node: Node, value: Tensor) -> Tensor:
    return functional.gelu(value, approximate=str(node.get("approximate", "none")))


def _thresholded(node: Node, value: Tensor) -> Tensor:
    return torch.where(value > node.get("alpha", 1.0), value, torch.zeros_like(value))


def _is_infinite(node: Node, value: Tensor) -> Tensor:
    above = torch.isposinf(value) if node.get("detect_positive", 1) else torch.zeros_like(value, dtype=torch.bool)
    below = torch.isneginf(value) if node.get("detect_negative", 1) else torch.zeros_like(value, dtype=torch.bool)
    return above | below


def _dropout(node: Node, value: Tensor, ratio: Array | None = None, training: Array | None = None) -> Result:
    if training is not None and number(training):
        raise Unsupported("it drops values at random, as in training")
    return value, torch.ones_like(value, dtype=torch.bool)


ELEMENTWISE: dict[str, Op] = {
    **{
        name: plain(getattr(torch, function))
        for name, function in {
            "Abs": "abs",
            "Neg": "neg",
            "Sqrt": "sqrt",
            "Exp": "exp",
            "Log": "log",
            "Erf": "erf",
            "Floor": "floor",
            "Ceil": "ceil",
            "Round": "round",
            "Reciprocal": "reciprocal",
            "Sign": "sign",
            "Sigmoid": "sigmoid",
            "Relu": "relu",
            "Tanh": "tanh",
            "Sin": "sin",
            "Cos": "cos",
            "Tan": "tan",
            "Asin": "asin",
            "Acos": "acos",
            "Atan": "atan",
            "Sinh": "sinh",
            "Cosh": "cosh",
            "Asinh": "asinh",
            "Acosh": "acosh",
            "Atanh": "atanh",
            "Add": "add",
            "Sub": "sub",
            "Mul": "mul",
            "Equal": "eq",
            "Less": "lt",
            "LessOrEqual": "le",
            "Greater": "gt",
            "GreaterOrEqual": "ge",
            "And": "logical_and",
            "Or": "logical_or",
            "Xor": "logical_xor",
            "Not": "logical_not",
            "BitwiseAnd": "bitwise_and",
            "BitwiseOr": "bitwise_or",
            "BitwiseXor": "bitwise_xor",
            "BitwiseNot": "bitwise_not",
            "IsNaN": "isnan",
            "Where": "where",
        }.items()
    },
    "Identity": plain(lambda value: value),
    "Dropout": Op(_dropout, host=(1, 2)),
    "Div": plain(_divide),
    "Mod": Op(_mod),
    "Pow": plain(_power),
    "Min": _folded(torch.minimum),
    "Max": _folded(torch.maximum),
    "Sum": _folded(torch.add),
    "Mean": plain(lambda *values: reduce(torch.add, values) / len(values)),
    "IsInf": Op(_is_infinite),
    "Clip": Op(_clip, either=(1, 2)),
    "Cast": Op(lambda node, value: value.to(torch_dtype(node.get("to")))),
    "CastLike": plain(lambda value, like: value.to(like.dtype)),
    "LeakyRelu": Op(lambda node, value: functional.leaky_relu(value, node.get("alpha", 0.01))),
    "PRelu": plain(lambda value, slope: torch.where(value < 0, slope * value, value)),
    "Elu": Op(lambda node, value: functional.elu(value, node.get("alpha", 1.0))),
    "Celu": Op(lambda node, value: functional.celu(value, node.get("alpha", 1.0))),
    "Selu": Op(_selu),
    "ThresholdedRelu": Op(_thresholded),
    "Shrink": Op(_shrink),
    "HardSigmoid": Op(_hard_sigmoid),
    "HardSwish": plain(functional.hardswish),
    "Swish": Op(_swish),
    "Mish": plain(functional.mish),
    "Gelu": Op(_gelu),
    "Softplus": plain(functional.softplus),
    "Softsign": plain(functional.softsign),
}
