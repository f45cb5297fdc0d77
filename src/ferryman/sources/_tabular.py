"""Give every model of tables the same signature and the same ONNX outputs, whichever library trained it.

Classifiers answer `label` (int64 or string, [batch]) and `probabilities` (float32, [batch, classes]); classifiers
without probabilities only `label`; regressors `prediction` (float32, [batch]).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.signature import Signature, TensorSpec
from ferryman.core.step import StepContext
from ferryman.sources._onnx_graph import (
    Model,
    graphs_of,
    merge_opsets,
    rename_tensors,
    strip_metadata,
    write_model,
)
from ferryman.sources._zipmap import remove_zipmap

_RESHAPE_OPSET, _OLDEST_IR = 18, 8
_NUMBERING_PREFIXES = ("", "f", "x", "Column_")  # how libraries name features that have no names


@dataclass(frozen=True, slots=True)
class Table:
    """Describe a model of tables: how many features go in, and which classes come out (none: a regressor)."""

    features: int
    classes: int = 0
    label_dtype: str = "int64"
    has_probabilities: bool = True

    def signature(self) -> Signature:
        """Give the one input `features` and the outputs by the house's names."""
        features = TensorSpec(name="features", dtype="float32", shape=("batch", self.features))
        return Signature(inputs=(features,), outputs=self.outputs())

    def outputs(self) -> tuple[TensorSpec, ...]:
        """Give the outputs by the house's names."""
        if not self.classes:
            return (TensorSpec(name="prediction", dtype="float32", shape=("batch",)),)
        label = TensorSpec(name="label", dtype=self.label_dtype, shape=("batch",))
        if not self.has_probabilities:
            return (label,)
        return (label, TensorSpec(name="probabilities", dtype="float32", shape=("batch", self.classes)))


def name_features(names: Sequence[object] | None, count: int) -> dict[str, list[str]]:
    """Give the part of an artifact's `loader` that says what the features were called in training, in their order.

    Empty where the model has no names of its own: none, not one a feature, or a library's numbers (f0, Column_0, 0).
    """
    named = [name for name in names or () if isinstance(name, str) and name]
    if not named or len(named) != len(names or ()) or len(set(named)) != count or len(named) != count:
        return {}
    is_numbered = any(
        all(name == f"{prefix}{place}" for place, name in enumerate(named)) for prefix in _NUMBERING_PREFIXES
    )
    return {} if is_numbered else {"feature_names": named}


def name_classes(classes: Sequence[object], table: Table) -> dict[str, list[str]]:
    """Give the part of an artifact's `loader` that says what the classes are called, in the order of probabilities.

    Empty where they are numbered from 0, or the model gives no probabilities.
    """
    names = [str(int(name)) if isinstance(name, float | np.floating | np.bool_) else str(name) for name in classes]
    is_numbered = names == [str(place) for place in range(len(names))]
    return {} if is_numbered or not table.has_probabilities or len(names) != table.classes else {"classes": names}


def finish(model: Model, source: Artifact, context: StepContext, step: str) -> Artifact:
    """Bring a converter's graph into the house's form and write it as the step's artifact."""
    remove_zipmap(model)
    _rename_inputs(model, source.signature.inputs)
    rename_tensors(model, {spec.name: f"{spec.name}_inner" for spec in source.signature.outputs})
    wanted = source.signature.outputs
    del model.graph.output[len(wanted) :]
    for value, spec in zip(list(model.graph.output), wanted, strict=True):
        _shape_output(model, value, spec)
    number_tensors(model)
    tidy(model)
    path = context.workspace / "model.onnx"
    digest = write_model(model, path)
    return Artifact(path, "onnx", source.signature, digest, source.precision, (*source.made_by, step))


def _rename_inputs(model: Model, wanted: tuple[TensorSpec, ...]) -> None:
    for value, spec in zip(model.graph.input, wanted, strict=True):
        rename_tensors(model, {value.name: spec.name})
        dims = value.type.tensor_type.shape.dim
        for dim, size in zip(dims, spec.shape, strict=True):
            if isinstance(size, str):
                dim.dim_param = size
            else:
                dim.dim_value = size


def _shape_output(model: Model, value: Any, spec: TensorSpec) -> None:  # onnx.ValueInfoProto
    import onnx

    is_text = spec.dtype == "string"
    elem_type = onnx.TensorProto.STRING if is_text else onnx.helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    raw = value.name
    sizes = np.array([-1 if isinstance(size, str) else size for size in spec.shape], dtype=np.int64)
    shape = onnx.numpy_helper.from_array(sizes, f"{spec.name}_shape")
    model.graph.initializer.append(shape)
    last = raw
    if value.type.tensor_type.elem_type != elem_type:
        last = f"{spec.name}_cast"
        model.graph.node.append(onnx.helper.make_node("Cast", [raw], [last], to=elem_type))
    model.graph.node.append(onnx.helper.make_node("Reshape", [last, shape.name], [spec.name]))
    value.CopyFrom(onnx.helper.make_tensor_value_info(spec.name, elem_type, list(spec.shape)))


def number_tensors(model: Model) -> None:
    """Name inner tensors after the node that makes them: converters number them through a whole process."""
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    names = dict.fromkeys(kept | {""}, "") | {name: name for name in kept}
    for number, graph in enumerate(graphs_of(model.graph)):
        for value in (*graph.initializer, *graph.input, *graph.output):
            names.setdefault(value.name, f"graph_{number}_{len(names)}")
        for index, node in enumerate(graph.node):
            for slot, name in enumerate(node.output):
                names.setdefault(name, f"{node.op_type}_{number}_{index}_{slot}")
    rename_tensors(model, names)


def tidy(model: Model) -> None:
    """Drop what equal models may differ in, or nothing uses; name nodes and graphs by their place."""
    strip_metadata(model)
    merge_opsets(model)
    if not any(entry.domain == "" for entry in model.opset_import):
        model.opset_import.add(domain="", version=_RESHAPE_OPSET)
    model.ir_version = max(model.ir_version, _OLDEST_IR)
    used = {name for graph in graphs_of(model.graph) for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in used]:
        model.graph.initializer.remove(tensor)
    for number, graph in enumerate(graphs_of(model.graph)):
        graph.name = f"graph_{number}"
        del graph.value_info[:]
        for index, node in enumerate(graph.node):
            node.name = f"{node.op_type}_{number}_{index}"
