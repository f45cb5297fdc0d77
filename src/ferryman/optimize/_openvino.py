"""Read, write and see OpenVINO models as layers that go by the names of their source's ONNX graph."""

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ferryman.core.artifact import Artifact, digest_path
from ferryman.core.errors import SourceError
from ferryman.core.privacy import forbid_telemetry
from ferryman.optimize._graph import Layer

Node = Any  # openvino.Node: openvino isn't imported at module level

_OPS = {  # by OpenVINO's operator: ONNX's, and the kind of layer
    "Convolution": ("Conv", "conv"),
    "GroupConvolution": ("Conv", "conv-depthwise"),
    "ConvolutionBackpropData": ("ConvTranspose", "conv"),
    "GroupConvolutionBackpropData": ("ConvTranspose", "conv"),
    "MatMul": ("MatMul", "matmul"),
    "Add": ("Add", "add"),
    "Subtract": ("Sub", "add"),
    "Multiply": ("Mul", "mul"),
    "Divide": ("Div", "mul"),
    "Concat": ("Concat", "concat"),
    "MaxPool": ("MaxPool", "pool"),
    "AvgPool": ("AveragePool", "pool"),
    "ReduceMean": ("GlobalAveragePool", "pool"),
    "ReduceMax": ("ReduceMax", "pool"),
    "Interpolate": ("Resize", "resize"),
    "Relu": ("Relu", "activation"),
    "Clamp": ("Clip", "activation"),
    "PRelu": ("LeakyRelu", "activation"),
    "Sigmoid": ("Sigmoid", "activation"),
    "SoftMax": ("Softmax", "softmax"),
    **{
        op: (op, "layout")
        for op in (
            "Reshape",
            "Transpose",
            "Squeeze",
            "Unsqueeze",
            "Split",
            "VariadicSplit",
            "Slice",
            "StridedSlice",
            "Pad",
        )
    },
    "MVN": ("LayerNormalization", "norm"),
}
_WEIGHTED = {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul"}
_PASSIVE = {"Constant", "Result", "Parameter"}


@dataclass(frozen=True, slots=True)
class Members:
    """Hold a layer and the names of the OpenVINO nodes that it is made of (a convolution and its bias)."""

    layer: Layer
    nodes: tuple[str, ...]


def read(path: Path) -> Any:  # openvino.Model
    """Read a folder with model.xml and model.bin; raises SourceError."""
    forbid_telemetry()
    import openvino

    try:
        # With the weights in memory: the file may be replaced while this model lives.
        return openvino.Core().read_model((path / "model.xml").read_text("utf-8"), _blob(path / "model.bin"))
    except (OSError, RuntimeError, ValueError) as error:
        raise SourceError(f"{path} can't be read as OpenVINO: {reason_of(error)}", hint="convert it again") from error


def write(model: Any, source: Artifact, workspace: Path, *, step: str, precision: str) -> Artifact:  # openvino.Model
    """Write a model as the folder `workspace`/model."""
    import openvino

    partial, folder = workspace / "model.partial", workspace / "model"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    openvino.save_model(model, partial / "model.xml", compress_to_fp16=False)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
    made_by = (*source.made_by, step)
    return replace(source, path=folder, digest=digest_path(folder), precision=precision, made_by=made_by, loader={})


def name_new_nodes(model: Any, known: Collection[str]) -> None:  # openvino.Model
    """Name nodes that are not in `known` after the node that they feed: their own names count on in each process."""
    for node in reversed(model.get_ordered_ops()):
        fed = [target for output in node.outputs() for target in output.get_target_inputs()]
        if fed and node.get_friendly_name() not in known:
            consumer, port = min((target.get_node().get_friendly_name(), target.get_index()) for target in fed)
            node.set_friendly_name(f"{consumer}/quantized{port}")


def members_of(model: Any) -> list[Members]:  # openvino.Model
    """List layers in topological order: a node without a tensor name belongs to the one that it feeds."""
    inside: dict[str, list[Node]] = {}
    owner: dict[str, str] = {}
    ordered = [node for node in model.get_ordered_ops() if node.get_type_name() not in _PASSIVE]
    for node in reversed(ordered):
        name = node.get_friendly_name()
        owner[name] = _owner(node, owner)
        inside.setdefault(owner[name], []).insert(0, node)
    last = {nodes[-1].get_friendly_name(): (key, nodes) for key, nodes in inside.items()}
    return [_members(*last[node.get_friendly_name()]) for node in ordered if node.get_friendly_name() in last]


def reason_of(error: BaseException) -> str:
    """Give the last line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:400]


def _blob(path: Path) -> Any:  # openvino.Tensor
    import openvino

    content = np.fromfile(path, dtype=np.uint8)
    return openvino.Tensor(content if content.size else np.zeros(1, dtype=np.uint8))


def _owner(node: Node, owner: dict[str, str]) -> str:
    """Name the layer of a node: its own where its value has a name in the source graph, or feeds several."""
    name: str = node.get_friendly_name()
    if any(output.get_names() for output in node.outputs()):
        return name
    fed = {target.get_node().get_friendly_name() for output in node.outputs() for target in output.get_target_inputs()}
    return owner.get(next(iter(fed)), name) if len(fed) == 1 else name


def _members(name: str, nodes: Sequence[Node]) -> Members:
    main = next((node for node in nodes if _has_weights(node)), nodes[-1])
    op, kind = _OPS.get(main.get_type_name(), (main.get_type_name(), ""))
    own = {node.get_friendly_name() for node in nodes}
    sources = [node.input_value(index).get_node() for node in nodes for index in range(node.get_input_size())]
    return Members(
        layer=Layer(
            # What was folded into a layer (its bias, a scale behind it) has taken its place as the last node.
            name=main.get_friendly_name() if "/input" not in main.get_friendly_name() else name,
            op=op,
            kind=_conv_kind(main, kind),
            # Edges go by node: names of tensors are kept for the values that have one in the source graph.
            inputs=tuple(f"@{node.get_friendly_name()}" for node in sources if node.get_friendly_name() not in own),
            outputs=(f"@{nodes[-1].get_friendly_name()}", *_tensors(nodes[-1]), *sorted(own)),
            is_weighted=_has_weights(main),
        ),
        nodes=tuple(node.get_friendly_name() for node in nodes),
    )


def _tensors(node: Node) -> list[str]:
    return [name for output in node.outputs() for name in sorted(output.get_names())]


def _has_weights(node: Node) -> bool:
    return node.get_type_name() in _WEIGHTED and any(
        _is_constant(node.input_value(index).get_node()) for index in range(2)
    )


def _is_constant(node: Node) -> bool:
    """Tell whether a value is a constant, at first hand or through a change of type or scale."""
    while node.get_type_name() in ("Convert", "Reshape", "Transpose", "Multiply", "Subtract", "FakeQuantize"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant")


def _conv_kind(node: Node, kind: str) -> str:
    if node.get_type_name() == "Convolution" and _has_weights(node):
        kernel = list(node.input_value(1).get_shape())[2:]
        return "conv-pointwise" if all(size == 1 for size in kernel) else kind
    return kind
