"""Read an ONNX graph's signature, and write graphs as equal bytes each time."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ferryman.core.errors import SourceError
from ferryman.core.signature import Dimension, Signature, TensorSpec

Model = Any  # onnx.ModelProto: onnx ships no types that mypy reads
_MAX_PROTOBUF_BYTES = 2**31 - 1


def write_model(model: Model, path: Path) -> str:
    """Write a graph as one file, whole or not at all; gives the sha256 of its bytes."""
    if model.ByteSize() > _MAX_PROTOBUF_BYTES:
        raise SourceError(
            f"the model is {model.ByteSize() / 1e9:.1f} GB; one ONNX file holds at most 2.1 GB",
            hint="Ferryman keeps a model in one file: use a smaller model, or half precision weights",
        )
    content = model.SerializeToString(deterministic=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)
    return hashlib.sha256(content).hexdigest()


def signature_of(model: Model) -> Signature:
    """Read names, dtypes and shapes of a graph's inputs and outputs; raises SourceError for what is no tensor."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_spec(value, "input") for value in model.graph.input if value.name not in constants)
    outputs = tuple(_spec(value, "output") for value in model.graph.output)
    if not outputs:
        raise SourceError("the model has no outputs", hint="export it again: a model without outputs computes nothing")
    if not inputs:
        raise SourceError("the model has no inputs", hint="export it again: its answer would never change")
    return Signature(inputs=inputs, outputs=outputs)


def _spec(value: Any, role: str) -> TensorSpec:  # onnx.ValueInfoProto
    import onnx

    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        what = (kind or "unknown").removesuffix("_type")
        raise SourceError(
            f"{role} '{value.name}' is a {what}, not a tensor", hint="export the model with plain tensors"
        )
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise SourceError(
            f"{role} '{value.name}' has no known shape, not even its number of dimensions",
            hint="export the model again with the shapes of its inputs and outputs",
        )
    elem_type = tensor.elem_type
    if elem_type == onnx.TensorProto.STRING:
        dtype = "string"
    else:
        try:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(elem_type).name
        except KeyError:
            raise SourceError(f"{role} '{value.name}' has the unknown element type {elem_type}") from None
    shape = tuple(_dimension(dim, value.name, axis) for axis, dim in enumerate(tensor.shape.dim))
    if 0 in shape:
        raise SourceError(
            f"{role} '{value.name}' has the shape {list(shape)}, which holds nothing",
            hint="export the model again; leave a dimension that varies without a size, not with size 0",
        )
    return TensorSpec(name=value.name, dtype=dtype, shape=shape)


def _dimension(dim: Any, name: str, axis: int) -> Dimension:  # onnx.TensorShapeProto.Dimension
    if dim.WhichOneof("value") == "dim_value":
        return int(dim.dim_value)
    return str(dim.dim_param) or dynamic_name(name, axis)


def dynamic_name(tensor: str, axis: int) -> str:
    """Name a dimension that varies and has no name of its own."""
    return "batch" if axis == 0 else f"{tensor}_{axis}"


def graphs_of(graph: Any) -> Iterator[Any]:  # onnx.GraphProto, and those nested in its nodes
    """Yield a graph and every graph inside its nodes (the branches of If, the bodies of Loop and Scan)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from graphs_of(inner)


def rename_tensors(model: Model, names: Mapping[str, str]) -> None:
    """Give tensors other names everywhere in a graph and the graphs inside its nodes."""
    for graph in graphs_of(model.graph):
        for value in (*graph.initializer, *graph.input, *graph.output):
            value.name = names.get(value.name, value.name)
        for node in graph.node:
            for tensors in (node.input, node.output):
                for index, name in enumerate(tensors):
                    tensors[index] = names.get(name, name)


def strip_metadata(model: Model) -> None:
    """Remove doc strings and metadata: exporters put stack traces with file names of their machine there."""
    model.doc_string = ""
    del model.metadata_props[:]
    scopes = [*graphs_of(model.graph), *model.functions]
    for scope in scopes:
        _clear(scope.node)
        _clear([scope])
        _clear(scope.value_info)
        if hasattr(scope, "initializer"):
            _clear([*scope.initializer, *scope.input, *scope.output])


def _clear(parts: Iterable[Any]) -> None:  # protobuf messages that may have these two fields
    for part in parts:
        part.ClearField("doc_string")
        if hasattr(part, "metadata_props"):
            part.ClearField("metadata_props")


def merge_opsets(model: Model) -> bool:
    """Keep one opset line a domain (the highest), as the ONNX rules say; tells whether any was doubled."""
    versions: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        versions[domain] = max(versions.get(domain, 0), entry.version)
    if len(versions) == len(model.opset_import):
        return False
    del model.opset_import[:]
    for domain, version in versions.items():
        model.opset_import.add(domain=domain, version=version)
    return True
