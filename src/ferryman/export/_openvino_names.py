"""Give the nodes of a converted model the names of its ONNX graph."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Model = Any  # openvino.Model: openvino isn't imported at module level
Node = Any  # openvino.Node

_WEIGHTED_ONNX = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_WEIGHTED = {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul"}


def name_as_source(model: Model, source: Path) -> None:
    """Name nodes as in the ONNX graph, and those that it doesn't have after the node that they feed.

    OpenVINO numbers its own nodes with a counter of the process, so that equal models would have unequal files.
    A layer with weights keeps its own name where the nodes behind it were folded into it.
    """
    ordered = [node for node in model.get_ordered_ops() if node.get_type_name() not in ("Parameter", "Result")]
    graph = _Graph.read(source, {name for node in ordered for name in _tensors(node)})
    taken = {node.get_friendly_name() for node in model.get_parameters()}

    def name(node: Node, wanted: str, otherwise: str) -> None:
        node.set_friendly_name(otherwise if wanted in taken or not wanted else wanted)
        taken.add(node.get_friendly_name())

    for node in ordered:
        if tensors := _tensors(node):
            wanted = next((graph.makers[tensor] for tensor in tensors if tensor in graph.makers), tensors[0])
            name(node, wanted, f"{wanted}/{tensors[0]}")
    for node in reversed(ordered):
        fed = [target for output in node.outputs() for target in output.get_target_inputs()]
        if fed and not _tensors(node):
            consumer, port = min((target.get_node().get_friendly_name(), target.get_index()) for target in fed)
            plain = f"{consumer}/input{port}"
            name(node, graph.weighted_behind(_flows_to(node)) if node.get_type_name() in _WEIGHTED else plain, plain)
    if model.has_rt_info(["conversion_parameters", "input_model"]):
        model.set_rt_info("", ["conversion_parameters", "input_model"])  # the name of a file on this machine


@dataclass(frozen=True, slots=True)
class _Graph:
    """Hold who makes which tensor of the ONNX graph, and which of them are left after the conversion."""

    makers: dict[str, str]
    ops: dict[str, str]
    feeds: dict[str, tuple[str, ...]]
    left: Collection[str]

    @classmethod
    def read(cls, path: Path, left: Collection[str]) -> "_Graph":
        import onnx

        graph = onnx.load(path, load_external_data=False).graph
        nodes = [(tensor, node) for node in graph.node if node.name for tensor in node.output]
        return cls(
            makers={tensor: node.name for tensor, node in nodes},
            ops={tensor: node.op_type for tensor, node in nodes},
            feeds={tensor: tuple(node.input) for tensor, node in nodes},
            left=left,
        )

    def weighted_behind(self, tensor: str) -> str:
        """Name the one layer with weights among the nodes that were folded into `tensor`; "" if it isn't one."""
        found: set[str] = set()
        waiting, seen = [tensor], {tensor}
        while waiting:
            current = waiting.pop()
            if self.ops.get(current) in _WEIGHTED_ONNX:
                found.add(self.makers[current])
                continue  # what feeds it is another layer's
            new = [feed for feed in self.feeds.get(current, ()) if feed not in self.left and feed not in seen]
            seen.update(new)
            waiting.extend(new)
        return found.pop() if len(found) == 1 else ""


def _flows_to(node: Node) -> str:
    """Give the first tensor with a name that a node's value flows to; "" where it parts before."""
    while not _tensors(node):
        fed = {
            target.get_node().get_friendly_name(): target.get_node() for target in node.output(0).get_target_inputs()
        }
        if len(fed) != 1:
            return ""
        node = next(iter(fed.values()))
        if node.get_type_name() == "Result":
            return ""
    return _tensors(node)[0]


def _tensors(node: Node) -> list[str]:
    return sorted(name for output in node.outputs() for name in output.get_names())
