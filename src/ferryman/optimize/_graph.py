"""See a graph as layers with kinds, whatever the format: which one has weights, what is the decode tail."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

Model = Any  # onnx.ModelProto: onnx isn't imported at module level
Node = Any  # onnx.NodeProto

_KINDS = {
    "ConvTranspose": "conv",
    "Gemm": "matmul",
    "MatMul": "matmul",
    "Add": "add",
    "Mul": "mul",
    "Concat": "concat",
    "MaxPool": "pool",
    "AveragePool": "pool",
    "GlobalAveragePool": "pool",
    "Relu": "activation",
    "LeakyRelu": "activation",
    "Clip": "activation",
    "Sigmoid": "activation",
    "Softmax": "softmax",
    "Resize": "resize",
    "Transpose": "layout",
    "Reshape": "layout",
    "Flatten": "layout",
    "Squeeze": "layout",
    "Unsqueeze": "layout",
    "Split": "layout",
    "Slice": "layout",
    "Pad": "layout",
}
QUANTIZABLE = frozenset({"Conv", *_KINDS})
_WITH_WEIGHTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_SAME_VALUES = {"Transpose", "Reshape", "Identity", "Cast", "DequantizeLinear", "Squeeze", "Unsqueeze"}


@dataclass(frozen=True, slots=True)
class Layer:
    """Be one node: `kind` is "" where INT8 has nothing to do with it; `is_weighted` tells of trained weights."""

    name: str
    op: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    is_weighted: bool


def layers_of(model: Model) -> list[Layer]:
    """List the nodes of an ONNX graph in topological order; those of constants are left out."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    layers: list[Layer] = []
    for node in model.graph.node:
        if node.op_type == "Constant":
            weights[node.output[0]] = next((entry.t for entry in node.attribute if entry.name == "value"), None)
        elif node.op_type in _SAME_VALUES and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
        else:
            layers.append(_layer(node, weights))
    return layers


def tail_of(layers: Iterable[Layer]) -> set[str]:
    """Name the layers behind the last weighted one on every path to the outputs: decoding, NMS, softmax."""
    return {layer.name for layer in _last(layers) if not layer.is_weighted}


def last_weighted(layers: Iterable[Layer]) -> set[str]:
    """Name the weighted layers with no other weighted layer behind them: the last one of each branch."""
    return {layer.name for layer in _last(layers) if layer.is_weighted}


def _last(layers: Iterable[Layer]) -> list[Layer]:
    """List layers with no weighted layer behind them, walking from the outputs."""
    before_weights: set[str] = set()  # tensors from which a weighted layer can be reached
    found: list[Layer] = []
    for layer in reversed(list(layers)):
        reaches = any(name in before_weights for name in layer.outputs)
        if not reaches:
            found.append(layer)
        if reaches or layer.is_weighted:
            before_weights.update(layer.inputs)
    return found


def _layer(node: Node, weights: dict[str, Any]) -> Layer:  # onnx.TensorProto, or None for other constants
    weighted = node.op_type in _WITH_WEIGHTS and any(name in weights for name in node.input[:2])
    weight = next((weights[name] for name in node.input[:2] if name in weights), None) if weighted else None
    return Layer(
        name=node.name,
        op=node.op_type,
        kind=_conv_kind(node, weight) if node.op_type == "Conv" else _KINDS.get(node.op_type, ""),
        inputs=tuple(name for name in node.input if name and name not in weights),
        outputs=tuple(node.output),
        is_weighted=weighted and not _is_projection(weight),
    )


def _conv_kind(node: Node, weight: Any) -> str:  # onnx.TensorProto or None
    if weight is None:
        return "conv"
    groups = next((entry.i for entry in node.attribute if entry.name == "group"), 1)
    if groups > 1 and weight.dims[1] == 1:
        return "conv-depthwise"
    return "conv-pointwise" if groups == 1 and all(size == 1 for size in weight.dims[2:]) else "conv"


def _is_projection(weight: Any) -> bool:  # onnx.TensorProto or None
    """Tell whether a "weight" is 0, 1, 2 ...: the mean over a distribution of distances that some decoders compute."""
    import onnx

    if weight is None or weight.dims[:1] != [1] or not 4 <= int(np.prod(weight.dims)) <= 256:
        return False
    values = onnx.numpy_helper.to_array(weight).ravel()
    return bool(np.array_equal(values, np.arange(values.size)))
