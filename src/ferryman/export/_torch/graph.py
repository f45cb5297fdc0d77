"""Read an ONNX file as nodes and constants, and name what torch has no way for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferryman.core.errors import NotApplicable, SourceError, StepError
from ferryman.core.signature import Array
from ferryman.export._torch.node import Node

_STANDARD = ("", "ai.onnx")
_CONTROL_FLOW = {"If", "Loop", "Scan", "SequenceMap"}
_WAY_OUT = "serve the ONNX model itself, or export the model without this operator"


@dataclass(frozen=True, slots=True)
class Graph:
    """Hold the nodes that outputs depend on, in order, and the constants that they take."""

    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]


def read_graph(path: Path, outputs: list[str], known: frozenset[str], *, step: str) -> Graph:
    """Read the part of a graph that `outputs` need; raises StepError for an operator that isn't in `known`."""
    import onnx

    try:
        model = onnx.load(path)
    except Exception as error:
        raise SourceError(f"{path} can't be read as ONNX: {error}", hint="open the source again") from error
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    versions = {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in model.opset_import}
    constants: dict[str, Array] = {
        tensor.name: onnx.numpy_helper.to_array(tensor, str(path.parent)) for tensor in model.graph.initializer
    }
    if model.graph.sparse_initializer:
        raise StepError(f"{step}: {path.name} keeps weights in sparse form", hint="save them as plain tensors")
    nodes = []
    for index, entry in enumerate(_needed(model.graph, outputs)):
        if entry.op_type == "Constant" and entry.domain in _STANDARD:
            constants[entry.output[0]] = _constant(entry, step, path)
            continue
        _require_known(entry, known, step, path)
        nodes.append(_node(entry, index, versions.get("", 1)))
    return Graph(tuple(nodes), constants)


def _needed(graph: Any, outputs: list[str]) -> list[Any]:  # onnx.GraphProto -> onnx.NodeProto
    wanted = set(outputs)
    found = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            found.append(node)
            wanted.update(node.input)
    return found[::-1]


def _require_known(entry: Any, known: frozenset[str], step: str, path: Path) -> None:  # onnx.NodeProto
    where = f"node '{entry.name or entry.output[0]}' of {path.name}"
    if entry.domain == "ai.onnx.ml":
        raise NotApplicable(
            f"{step}: torch has no operators for trees and linear models: {entry.op_type}, {where}",
            hint="ONNX Runtime serves them",
        )
    if entry.domain not in _STANDARD:
        raise StepError(f"{step}: {entry.domain}::{entry.op_type} is no operator of ONNX: {where}", hint=_WAY_OUT)
    if entry.op_type in _CONTROL_FLOW:
        raise StepError(
            f"{step}: {entry.op_type} decides while the model runs, which torch.export can't follow: {where}",
            hint="export the model without control flow; constant conditions go away by simplifying the graph first",
        )
    if entry.op_type not in known:
        raise StepError(f"{step}: there is no way from {entry.op_type} to torch: {where}", hint=_WAY_OUT)


def _node(entry: Any, index: int, opset: int) -> Node:  # onnx.NodeProto
    import onnx

    attributes: dict[str, Any] = {}
    for attribute in entry.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, onnx.TensorProto):
            value = onnx.numpy_helper.to_array(value)
        elif not isinstance(value, int | float):
            value = [part.decode() if isinstance(part, bytes) else part for part in value]
        attributes[attribute.name] = value
    outputs = list(entry.output)
    while outputs and not outputs[-1]:
        outputs.pop()
    name = entry.name or f"{entry.op_type}_{index}"
    return Node(entry.op_type, name, tuple(entry.input), tuple(outputs), attributes, opset)


def _constant(entry: Any, step: str, path: Path) -> Array:  # onnx.NodeProto
    import numpy as np

    attributes = _node(entry, 0, 1).attributes
    kinds = {"value": None, "value_float": np.float32, "value_floats": np.float32, "value_int": np.int64}
    for name, dtype in {**kinds, "value_ints": np.int64}.items():
        if name in attributes:
            return np.asarray(attributes[name], dtype=dtype)
    raise StepError(
        f"{step}: the constant '{entry.output[0]}' of {path.name} is text or sparse", hint="torch has numbers only"
    )
