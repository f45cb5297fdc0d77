"""Correct the biases of a quantized model by what its layers are off on average, on calibration samples.

Empirical bias correction (Nagel et al. 2019): rounding shifts a channel's mean, and the shift adds up from layer to
layer. Layers are corrected in the order of the graph, each on what those before it answer once they are corrected:
all at once, a layer would take back again what those before it had taken back, and more with each layer.
Behind a ReLU or SiLU only what is over zero counts: what the next layer sees is to have the right mean.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferryman.core.step import StepContext
from ferryman.optimize._channels import Wanted, reduce_channels
from ferryman.optimize._equalize import ranks_of
from ferryman.optimize._graph import Layer
from ferryman.optimize._onnx import Model
from ferryman.optimize._silu import before_silu

_OPS = {"Conv": 1, "ConvTranspose": 1, "Gemm": -1}  # the axis of channels in what they make
_LARGEST = 2**31 - 1
_LEAST_ACTIVE = 0.1  # of a channel's values: a bias moves the mean of the others only as far as they are over zero


@dataclass(frozen=True, slots=True)
class _Bias:
    """Hold a layer's bias in 32 bits, the scale of its steps, and the tensor that it shifts: in float, quantized.

    They differ in name where the quantizer lets the layer do the work of the ReLU behind it.
    """

    tensor: str
    quantized_tensor: str
    axis: int
    quantized: Any  # onnx.TensorProto
    scale: NDArray[np.float64]


def add_biases(model: Model, layers: Sequence[Layer]) -> None:
    """Give each convolution and product among `layers` that has no bias one of zeros, in place."""
    import onnx

    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    names = {layer.name for layer in layers}
    for node in model.graph.node:
        if node.op_type != "Conv" or node.name not in names or len(node.input) > 2 or node.input[1] not in shapes:
            continue
        name = f"{node.name}_bias"
        zeros = np.zeros(shapes[node.input[1]][0], np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(zeros, name))
        node.input.append(name)


def correct_biases(model: Model, quantized: Model, layers: Sequence[Layer], context: StepContext) -> int:
    """Shift the biases of `quantized`, in place, until its channels have the means of `model`; give their number."""
    ranks = ranks_of(model)
    makes = {node.name: node.output[0] for node in model.graph.node}
    measurable = {layer.name: makes[layer.name] for layer in layers if ranks.get(makes.get(layer.name, ""))}
    biases = _biases_of(quantized, measurable)
    if not biases:
        return 0
    rectified = _rectified(model)
    before = [_wanted(bias.tensor, bias, ranks, rectified) for bias in biases.values()]
    means = reduce_channels(model, before, context, by="mean")
    active = reduce_channels(model, before, context, by="active")
    rounds = _rounds_of(model, biases)
    for index, names in enumerate(rounds):
        now = [biases[name] for name in names]
        wanted = [_wanted(bias.quantized_tensor, bias, ranks, rectified) for bias in now]
        got = reduce_channels(quantized, wanted, context, by="mean")
        for bias in now:
            moves = np.maximum(active[bias.tensor], _LEAST_ACTIVE) if bias.tensor in rectified else 1.0
            _shift(bias, (means[bias.tensor] - got[bias.quantized_tensor]) / moves)
        context.progress("correct biases", done=index + 1, total=len(rounds))
    return len(biases)


def _wanted(tensor: str, bias: _Bias, ranks: Mapping[str, int], rectified: Collection[str]) -> Wanted:
    return Wanted(tensor, bias.axis, ranks[bias.tensor], is_rectified=bias.tensor in rectified)


def _rectified(model: Model) -> set[str]:
    """Name the tensors of which what is below zero is cut off, or nearly (SiLU), by all that reads them."""
    cut = set(before_silu(model))
    readers: dict[str, set[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    return cut | {name for name, ops in readers.items() if ops == {"Relu"}} - {out.name for out in model.graph.output}


def _biases_of(quantized: Model, tensors: Mapping[str, str]) -> dict[str, _Bias]:
    """Find the layers whose bias is a constant of 32 bits behind a DequantizeLinear."""
    import onnx

    makers = {node.output[0]: node for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
    constants = {tensor.name: tensor for tensor in quantized.graph.initializer}
    found: dict[str, _Bias] = {}
    for node in quantized.graph.node:
        maker = makers.get(node.input[2]) if node.name in tensors and len(node.input) > 2 else None
        if node.op_type not in _OPS or maker is None or maker.input[0] not in constants:
            continue
        scale = onnx.numpy_helper.to_array(constants[maker.input[1]]).astype(np.float64)
        found[node.name] = _Bias(
            tensors[node.name], node.output[0], _OPS[node.op_type], constants[maker.input[0]], scale
        )
    return found


def _rounds_of(model: Model, biases: Mapping[str, _Bias]) -> list[list[str]]:
    """Sort layers by the number of corrected layers before them: those of one round don't feed each other."""
    depths: dict[str, int] = {}
    levels: dict[int, list[str]] = {}
    for node in model.graph.node:
        depth = max((depths.get(name, 0) for name in node.input), default=0)
        if node.name in biases:
            levels.setdefault(depth, []).append(node.name)
            depth += 1
        depths.update(dict.fromkeys(node.output, depth))
    return [levels[depth] for depth in sorted(levels)]


def _shift(bias: _Bias, error: NDArray[np.float64]) -> None:
    import onnx

    before = onnx.numpy_helper.to_array(bias.quantized).astype(np.int64)
    after = np.clip(before + np.round(error / bias.scale).astype(np.int64), -_LARGEST, _LARGEST).astype(np.int32)
    bias.quantized.CopyFrom(onnx.numpy_helper.from_array(after, bias.quantized.name))
