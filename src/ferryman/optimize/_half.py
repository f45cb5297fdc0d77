"""Rewrite an ONNX graph so that chosen nodes compute in float16, with casts only where the precision changes."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ferryman.optimize._onnx import Model

Node = Any  # onnx.NodeProto: onnx isn't imported at module level

# Exponentials, sums over many values and norms overflow or drown in float16: they stay in float32.
OPS = frozenset(
    {
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Clip",
        "Concat",
        "Conv",
        "ConvTranspose",
        "DepthToSpace",
        "Div",
        "Elu",
        "Expand",
        "Flatten",
        "Gather",
        "Gelu",
        "Gemm",
        "GlobalAveragePool",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "MatMul",
        "MaxPool",
        "Mul",
        "PRelu",
        "Pad",
        "Relu",
        "Reshape",
        "Resize",
        "Selu",
        "Sigmoid",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Sub",
        "Swish",
        "Tanh",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Where",
    }
)
_STAYS_FLOAT = {"Resize": {2}, "Upsample": {1}}  # the positions of inputs that the operator takes in float32 only


def to_half(model: Model, nodes: Collection[str]) -> None:
    """Let the named nodes compute in float16, in place; the graph's inputs and outputs keep their types."""
    _Halving(model, frozenset(nodes)).run()


@dataclass
class _Halving:
    """Hold the state of one rewrite: the float32 tensors, those that are float16 by now, the casts made so far."""

    model: Model
    nodes: frozenset[str]
    floats: set[str] = field(default_factory=set)
    halves: set[str] = field(default_factory=set)
    cast: dict[tuple[str, bool], str] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)  # onnx.TensorProto

    def run(self) -> None:
        import onnx

        graph = self.model.graph
        infos = (*graph.value_info, *graph.input, *graph.output)
        self.floats = {info.name for info in infos if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
        self.floats |= {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        outputs = {output.name for output in graph.output}
        rewritten: list[Node] = []
        for node in graph.node:
            wants_half = node.name in self.nodes
            rewritten.extend(self._feed(node, wants_half))
            rewritten.append(node)
            if wants_half:
                rewritten.extend(self._mark(node, outputs))
        del graph.node[:]
        graph.node.extend(rewritten)
        del graph.value_info[:]
        used = {name for node in graph.node for name in node.input} | outputs
        kept = [tensor for tensor in graph.initializer if tensor.name in used or _has_subgraphs(self.model)]
        del graph.initializer[:]
        graph.initializer.extend(kept)

    def _feed(self, node: Node, wants_half: bool) -> Iterator[Node]:
        """Give `node` its inputs in the precision that it computes in; yield the casts that this takes."""
        for index, name in enumerate(node.input):
            half = wants_half and index not in _STAYS_FLOAT.get(node.op_type, ())
            if name not in self.floats or half == (name in self.halves):
                continue
            if (name, half) not in self.cast:
                self.cast[name, half] = f"{name}_fp16" if half else f"{name}_fp32"
                if name in self.weights:
                    self._halve_weight(name)
                else:
                    yield _cast(name, self.cast[name, half], half=half)
            node.input[index] = self.cast[name, half]

    def _mark(self, node: Node, outputs: Collection[str]) -> Iterator[Node]:
        """Note that what `node` computes is float16 now; yield casts for the outputs of the graph."""
        for index, name in enumerate(node.output):
            if name in outputs and name in self.floats:
                node.output[index] = f"{name}_fp16"
                self.cast[name, True] = node.output[index]
                yield _cast(node.output[index], name, half=False)
            elif name in self.floats:
                self.halves.add(name)

    def _halve_weight(self, name: str) -> None:
        import onnx

        values = onnx.numpy_helper.to_array(self.weights[name]).astype(np.float16)
        self.model.graph.initializer.append(onnx.numpy_helper.from_array(values, self.cast[name, True]))


def can_be_half(model: Model) -> set[str]:
    """Name the nodes of operators that bear float16, with known types and no constant that float16 would cut off."""
    import onnx

    graph = model.graph
    typed = {info.name for info in (*graph.value_info, *graph.input, *graph.output)}
    typed |= {tensor.name for tensor in graph.initializer}
    largest = float(np.finfo(np.float16).max)
    unfit = {
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
        and np.abs(onnx.numpy_helper.to_array(tensor)).max(initial=0.0) > largest
    }
    unfit |= _captured(model)
    return {
        node.name
        for node in graph.node
        if node.op_type in OPS
        and node.domain in ("", "ai.onnx")
        and all(name in typed for name in (*node.input, *node.output) if name)
        and not unfit.intersection((*node.input, *node.output))
    }


def _has_subgraphs(model: Model) -> bool:
    return any(entry.HasField("g") or entry.graphs for node in model.graph.node for entry in node.attribute)


def _captured(model: Model) -> set[str]:
    """Name the tensors that branches and loop bodies read from outside."""
    found: set[str] = set()
    waiting = [graph for node in model.graph.node for graph in _subgraphs(node)]
    while waiting:
        graph = waiting.pop()
        found.update(output.name for output in graph.output)
        for node in graph.node:
            found.update(node.input)
            waiting.extend(_subgraphs(node))
    return found


def _subgraphs(node: Node) -> list[Any]:  # onnx.GraphProto
    return [graph for entry in node.attribute for graph in (*([entry.g] if entry.HasField("g") else []), *entry.graphs)]


def _cast(source: str, target: str, *, half: bool) -> Node:
    import onnx

    kind = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
    return onnx.helper.make_node("Cast", [source], [target], name=f"{target}_cast", to=kind)
