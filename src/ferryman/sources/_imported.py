"""Bring the ONNX file of a converter that ran elsewhere into the house's form."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ferryman.core.artifact import Artifact
from ferryman.core.errors import StepError
from ferryman.core.signature import TensorSpec
from ferryman.core.step import StepContext
from ferryman.sources._onnx_graph import Model, graphs_of, rename_tensors, write_model
from ferryman.sources._tabular import number_tensors, tidy


def finish_imported(
    file: Path, ports: Mapping[str, Sequence[str]], source: Artifact, context: StepContext, step: str
) -> Artifact:
    """Give the graph the source's names and shapes, and number all that is inside: equal graphs give equal bytes.

    `ports` tells what the converter calls "inputs" and "outputs", in the source's order.
    """
    import onnx

    model = onnx.load(file)
    signature = source.signature
    doors = (
        (model.graph.input, ports["inputs"], signature.inputs),
        (model.graph.output, ports["outputs"], signature.outputs),
    )
    for values, told, specs in doors:
        if len(told) != len(specs) or {value.name for value in values} != set(told):
            kept, wanted = sorted(value.name for value in values), [spec.name for spec in specs]
            raise StepError(f"{step}: the graph has {kept} where the model has {wanted}", hint="export the model again")
    _order_weights(model)
    number_tensors(model)
    between = {name: f"port {place}" for place, name in enumerate((*ports["inputs"], *ports["outputs"]))}
    rename_tensors(model, between)  # in two moves: a converter may call one port as the source calls another
    wanted = [spec.name for spec in (*signature.inputs, *signature.outputs)]
    rename_tensors(model, dict(zip(between.values(), wanted, strict=True)))
    for values, _, specs in doors:
        _arrange(values, specs)
    tidy(model)
    _drop_unused_domains(model)
    path = context.workspace / "model.onnx"
    digest = write_model(model, path)
    return Artifact(path, "onnx", signature, digest, source.precision, (*source.made_by, step))


def _order_weights(model: Model) -> None:
    """Put each graph's weights in the order of their first use: tf2onnx keeps them in sets."""
    for graph in graphs_of(model.graph):
        uses = [name for inner in graphs_of(graph) for node in inner.node for name in node.input]
        first = {name: place for place, name in reversed(list(enumerate(uses)))}
        ordered = sorted(graph.initializer, key=lambda tensor: first.get(tensor.name, len(uses)))
        kept = [type(tensor).FromString(tensor.SerializeToString()) for tensor in ordered]
        del graph.initializer[:]
        graph.initializer.extend(kept)


def _arrange(values: Any, specs: Iterable[TensorSpec]) -> None:  # a repeated onnx.ValueInfoProto
    """Put a graph's inputs or outputs into the signature's order, with its dtypes and its names of dimensions."""
    import onnx

    del values[:]
    for spec in specs:
        elem_type = onnx.helper.np_dtype_to_tensor_dtype(_dtype(spec))
        values.append(onnx.helper.make_tensor_value_info(spec.name, elem_type, list(spec.shape)))


def _dtype(spec: TensorSpec) -> Any:  # a numpy dtype
    import numpy as np

    return np.dtype(object if spec.dtype == "string" else spec.dtype)


def _drop_unused_domains(model: Model) -> None:
    used = {node.domain for graph in graphs_of(model.graph) for node in graph.node} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[len(kept) :]
    for entry, wanted in zip(list(model.opset_import), [(one.domain, one.version) for one in kept], strict=True):
        entry.domain, entry.version = wanted
