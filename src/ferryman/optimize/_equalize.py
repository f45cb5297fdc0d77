"""Even out the ranges of channels before quantizing: what one layer's weights give up, the next one's take on.

Cross-layer equalization (Nagel et al. 2019) for convolutions and SmoothQuant (Xiao et al. 2022) for products behind a
LayerNormalization are one rewrite: an activation channel is divided by s, in the weights of the layer that makes it,
and the weights that read it are multiplied by s. In float the answers stay as they were.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ferryman.core.step import StepContext
from ferryman.optimize._channels import Wanted, reduce_channels
from ferryman.optimize._onnx import Model, Node

_SAME_SCALE = {"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Dropout"}
_MAKERS = {"Conv", "Gemm", "LayerNormalization"}
_MOST = 32.0  # no channel is scaled further, up or down
_SHARE = 0.5  # SmoothQuant's alpha: how much of an activation's unevenness the weights take on

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reader:
    """Name a layer that reads channels `first`, `first` + 1, ... of its input, and the axis of its weights they are."""

    weight: str
    axis: int
    first: int
    is_depthwise: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """Hold a layer whose channels can be scaled, the tensor that it makes and all that reads them in the end."""

    node: Node
    tensor: str
    axis: int
    channels: int
    readers: tuple[Reader, ...]


def equalize(model: Model, context: StepContext, *, per_channel: bool) -> int:
    """Scale channels in place, by their largest values on calibration samples; give the number of layers evened out."""
    import onnx

    ranks = ranks_of(model)
    pairs = [pair for pair in _Graph(model).pairs() if ranks.get(pair.tensor)]
    if not pairs:
        return 0
    wanted = [Wanted(pair.tensor, pair.axis, ranks[pair.tensor]) for pair in pairs]
    peaks = reduce_channels(model, wanted, context, by="peak")
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    values = {
        name: np.array(onnx.numpy_helper.to_array(weights[name]))
        for pair in pairs
        for name in (*pair.node.input[1:3], *(reader.weight for reader in pair.readers))
        if name
    }
    for pair in pairs:
        _apply(pair, _scales(pair, peaks[pair.tensor], values, per_channel=per_channel), values)
    for name, value in values.items():
        weights[name].CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float32), name))
    return len(pairs)


def ranks_of(model: Model) -> dict[str, int]:
    """Give the number of dimensions of each tensor, as far as shapes are known."""
    infos = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    return {info.name: len(info.type.tensor_type.shape.dim) for info in infos}


def _scales(pair: Pair, peaks: Floats, values: Mapping[str, NDArray[np.float32]], *, per_channel: bool) -> Floats:
    """Give the divisor of each channel, 1 in the geometric mean; dead channels keep theirs."""
    reads = np.zeros(pair.channels)
    for reader in pair.readers:
        part = _part(values[reader.weight], reader, pair.channels)
        others = tuple(axis for axis in range(part.ndim) if axis != reader.axis)
        reads = np.maximum(reads, np.abs(part).max(axis=others))
    alive = (peaks > 0) & (reads > 0)
    if not alive.any():
        return np.ones(pair.channels)
    # A depthwise layer has a scale for each channel of its own, so its weights take on everything at no cost.
    share = 1.0 if per_channel and all(reader.is_depthwise for reader in pair.readers) else _SHARE
    wished = np.zeros(pair.channels)
    wished[alive] = share * np.log(peaks[alive]) - (1 - share) * np.log(reads[alive])
    wished[alive] -= wished[alive].mean()
    scales: Floats = np.exp(np.clip(wished, -np.log(_MOST), np.log(_MOST)))
    return scales


def _apply(pair: Pair, scales: Floats, values: dict[str, NDArray[np.float32]]) -> None:
    for name in pair.node.input[1:3]:
        if name:
            made = values[name]
            axis = 1 if _is_plain_gemm(pair.node) and made.ndim == 2 else 0
            shape = [1] * made.ndim
            shape[axis] = pair.channels
            values[name] = (made / scales.reshape(shape)).astype(np.float32)
    for reader in pair.readers:
        part = _part(values[reader.weight], reader, pair.channels)
        shape = [1] * part.ndim
        shape[reader.axis] = pair.channels
        part *= scales.reshape(shape)


def _part(weight: NDArray[np.float32], reader: Reader, channels: int) -> NDArray[np.float32]:
    """Give the view of the weights that read these channels."""
    places = [slice(None)] * weight.ndim
    places[reader.axis] = slice(reader.first, reader.first + channels)
    return weight[tuple(places)]


def _is_plain_gemm(node: Node) -> bool:
    return bool(node.op_type == "Gemm" and not _attribute(node, "transB", 0))


@dataclass
class _Graph:
    """Hold who reads which tensor, and the weights that one layer alone has."""

    model: Model
    readers: dict[str, list[tuple[Node, int]]] = field(default_factory=dict)
    shapes: dict[str, list[int]] = field(default_factory=dict)
    outputs: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        import onnx

        graph = self.model.graph
        for node in graph.node:
            for index, name in enumerate(node.input):
                self.readers.setdefault(name, []).append((node, index))
        self.outputs = {output.name for output in graph.output}
        for info in (*graph.value_info, *graph.input, *graph.output):
            self.shapes[info.name] = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        self.weights = {
            tensor.name: list(tensor.dims)
            for tensor in graph.initializer
            if tensor.data_type == onnx.TensorProto.FLOAT and len(self.readers.get(tensor.name, ())) == 1
        }

    def pairs(self) -> Iterator[Pair]:
        for node in self.model.graph.node:
            if node.op_type not in _MAKERS or not all(name in self.weights for name in node.input[1:3] if name):
                continue
            if node.op_type == "Gemm" and (_attribute(node, "alpha", 1.0), _attribute(node, "beta", 1.0)) != (1, 1):
                continue
            tensor = node.output[0]
            axis = 1 if node.op_type == "Conv" else -1
            channels = self._channels(node)
            found = self._follow(tensor, axis, 0) if channels else None
            if found:
                yield Pair(node, tensor, axis, channels, tuple(found))

    def _channels(self, node: Node) -> int:
        weight = self.weights.get(node.input[1], [])
        if node.op_type == "LayerNormalization":
            return weight[0] if len(weight) == 1 and _attribute(node, "axis", -1) == -1 else 0
        return int(weight[1] if _is_plain_gemm(node) else weight[0])

    def _follow(self, tensor: str, axis: int, first: int) -> list[Reader] | None:
        """List all that reads these channels; None where something isn't known to bear a scale."""
        if tensor in self.outputs:
            return None
        found: list[Reader] = []
        for node, index in self.readers.get(tensor, ()):
            inner = self._through(node, index, tensor, axis, first)
            if inner is None:
                return None
            found.extend(inner)
        return found

    def _through(self, node: Node, index: int, tensor: str, axis: int, first: int) -> list[Reader] | None:
        if node.op_type in _SAME_SCALE and index == 0 and (axis == 1 or node.op_type in ("Relu", "LeakyRelu")):
            return self._follow(node.output[0], axis, first)
        if node.op_type == "Concat" and axis == 1 and _attribute(node, "axis", 0) == 1:
            widths = [self.shapes.get(name, [0, 0])[1:2] for name in node.input[:index]]
            if list(node.input).count(tensor) > 1 or not all(width and width[0] for width in widths):
                return None
            return self._follow(node.output[0], axis, first + sum(width[0] for width in widths))
        reader = self._reader(node, axis, first) if index == 0 else None
        return [reader] if reader else None

    def _reader(self, node: Node, axis: int, first: int) -> Reader | None:
        name = node.input[1] if len(node.input) > 1 else ""
        shape = self.weights.get(name)
        if shape is None:
            return None
        if node.op_type == "Conv" and axis == 1:
            groups = _attribute(node, "group", 1)
            if groups == 1:
                return Reader(name, 1, first)
            return Reader(name, 0, first, is_depthwise=True) if shape[:2] == [groups, 1] else None
        if node.op_type == "MatMul" and axis == -1 and len(shape) == 2:
            return Reader(name, 0, first)
        if node.op_type == "Gemm" and axis == -1 and not _attribute(node, "transA", 0):
            return Reader(name, 1 if _attribute(node, "transB", 0) else 0, first)
        return None


def _attribute(node: Node, name: str, usual: float) -> float:
    for entry in node.attribute:
        if entry.name == name:
            return float(entry.f) if entry.type == 1 else int(entry.i)  # 1: AttributeProto.FLOAT
    return usual
