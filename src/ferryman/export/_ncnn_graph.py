"""Say in other operators, with equal results, what ncnn's converter gets wrong in ONNX graphs."""

from pathlib import Path
from typing import Any

import numpy as np

Model = Any  # onnx.ModelProto: onnx isn't imported at module level
Node = Any  # onnx.NodeProto

_REDUCTIONS = {"ReduceSum", "ReduceMean"}
_USUAL = {"Add", "BatchNormalization", "Clip", "Concat", "Constant", "Conv", "ConvTranspose", "Div", "Exp", "Flatten"}
_USUAL |= {
    "Gemm",
    "GlobalAveragePool",
    "Identity",
    "LeakyRelu",
    "MatMul",
    "MaxPool",
    "Mul",
    "Relu",
    "Reshape",
    "Resize",
}
_USUAL |= {"AveragePool", "HardSigmoid", "HardSwish", "Sigmoid", "Softmax", "Split", "Sub", "Transpose"}


def rewrite(source: Path, target: Path) -> list[str]:
    """Write `target`: slices with a step become convolutions, reductions over one dimension go over two.

    Give the operators that a crash of the converter may come from: those that few models have.
    """
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(source))
    graph = _Graph(model)
    nodes: list[Node] = []
    for node in model.graph.node:
        if node.op_type == "Slice":
            nodes += _slice(graph, node)
        elif node.op_type in _REDUCTIONS:
            nodes += _reduction(graph, node)
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, target)
    return sorted({node.op_type for node in nodes} - _USUAL) or ["the usual ones"]


class _Graph:
    """Know the constants and shapes of a graph, and take new constants."""

    def __init__(self, model: Model) -> None:
        from onnx import numpy_helper

        self._graph = model.graph
        self._constants = {part.name: part for part in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._constants[node.output[0]] = node.attribute[0].t
        self._read = numpy_helper.to_array
        self._write = numpy_helper.from_array
        self._shapes = {
            info.name: [dim.dim_value for dim in info.type.tensor_type.shape.dim]
            for info in (*model.graph.input, *model.graph.value_info, *model.graph.output)
        }

    def values(self, node: Node, index: int) -> list[int] | None:
        """Give a constant input as whole numbers; None where it is left out or not constant."""
        name = node.input[index] if index < len(node.input) else ""
        return self._read(self._constants[name]).reshape(-1).tolist() if name in self._constants else None

    def shape(self, tensor: str) -> list[int]:
        """Give the sizes, 0 where one is unknown; [] where nothing is known."""
        return self._shapes.get(tensor, [])

    def add(self, name: str, value: Any) -> str:  # value: a numpy array
        """Add a constant and give its name."""
        self._graph.initializer.append(self._write(value, name))
        return name


def _slice(graph: _Graph, node: Node) -> list[Node]:
    """Give a convolution with one 1 in each kernel for a slice of pictures with steps; else the node itself."""
    from onnx import helper

    shape, found = graph.shape(node.input[0]), [graph.values(node, index) for index in (1, 2, 3, 4)]
    if len(shape) != 4 or not shape[1] or any(values is None for values in found):
        return [node]
    size = {2: 1, 3: 1}
    first = {2: 0, 3: 0}
    for start, end, axis, step in zip(*(values or [] for values in found), strict=True):
        length = shape[axis % 4]
        if axis % 4 not in size or step < 2 or length % step or not 0 <= start < step or end < length:
            return [node]
        size[axis % 4], first[axis % 4] = step, start
    weights = np.zeros((shape[1], 1, size[2], size[3]), np.float32)
    weights[:, :, first[2], first[3]] = 1
    name = graph.add(f"{node.output[0]}/picks", weights)
    made = helper.make_node(
        "Conv",
        [node.input[0], name],
        list(node.output),
        name=node.name,
        group=shape[1],
        kernel_shape=[size[2], size[3]],
        strides=[size[2], size[3]],
    )
    return [made]


def _reduction(graph: _Graph, node: Node) -> list[Node]:
    """Reduce over one dimension and a new one of size 1: of a single dimension the converter forgets which.

    That dimension goes last, and all others but the batch become one, since ncnn has no more than four.
    """
    from onnx import helper

    attributes = {part.name: helper.get_attribute_value(part) for part in node.attribute}
    axes = attributes.get("axes") or graph.values(node, 1)
    shape = [1, *graph.shape(node.input[0])[1:]]
    if axes is None or len(axes) != 1 or axes[0] % len(shape) == 0 or 0 in shape:
        return [node]
    axis, label = axes[0] % len(shape), node.output[0]
    order = [place for place in range(len(shape)) if place != axis]
    reduced = [1] if attributes.get("keepdims", 1) else []

    def constant(name: str, value: list[int]) -> str:
        return graph.add(f"{label}/{name}", np.array(value, np.int64))

    inputs, more = [f"{label}/flat"], {"axes": [2, 3]}
    if not attributes.get("axes"):
        inputs, more = [*inputs, constant("axes", [2, 3])], {}
    return [
        helper.make_node("Transpose", [node.input[0]], [f"{label}/last"], perm=[*order, axis]),
        helper.make_node("Reshape", [f"{label}/last", constant("flat_shape", [1, -1, shape[axis], 1])], inputs[:1]),
        helper.make_node(node.op_type, inputs, [f"{label}/reduced"], name=node.name, keepdims=0, **more),
        helper.make_node(
            "Reshape",
            [
                f"{label}/reduced",
                constant("shape", [*(shape[p] for p in order[:axis]), *reduced, *(shape[p] for p in order[axis:])]),
            ],
            [label],
        ),
    ]
