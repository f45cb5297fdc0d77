"""Repair what is harmless in an ONNX model; each repair says in a sentence what it did."""

from collections import Counter
from typing import Any

from ferryman.sources._onnx_graph import Model, dynamic_name, graphs_of, merge_opsets
from ferryman.sources._zipmap import remove_zipmap


def repair(model: Model) -> list[str]:
    """Change `model` where it breaks a rule without meaning anything by it; gives one sentence a repair."""
    repairs = [
        _drop_initializer_inputs(model),
        _name_nodes(model),
        _name_dimensions(model),
        "opset lines given twice were merged" if merge_opsets(model) else "",
        *(f"the ZipMap at output '{name}' was removed: it is a plain tensor now" for name in remove_zipmap(model)),
        _infer_output_shapes(model),
    ]
    return [sentence for sentence in repairs if sentence]


def _drop_initializer_inputs(model: Model) -> str:
    constants = {tensor.name for tensor in model.graph.initializer}
    listed = [value for value in model.graph.input if value.name in constants]
    for value in listed:
        model.graph.input.remove(value)
    if listed:
        model.ir_version = max(model.ir_version, 4)  # before IR 4 every initializer had to be an input
    return f"{len(listed)} weights that were listed as inputs are weights only" if listed else ""


def _name_nodes(model: Model) -> str:
    nodes = [node for graph in graphs_of(model.graph) for node in graph.node]
    counts = Counter(node.name for node in nodes)
    taken = set(counts)
    seen: set[str] = set()
    renamed = 0
    for index, node in enumerate(nodes):
        if node.name and node.name not in seen:
            seen.add(node.name)
            continue
        name = f"{node.name or node.op_type}_{index}"
        while name in taken:
            name += "_"
        node.name = name
        taken.add(name)
        renamed += 1
    return f"{renamed} nodes without a name of their own were given one" if renamed else ""


def _name_dimensions(model: Model) -> str:
    named = 0
    for value in [*model.graph.input, *model.graph.output]:
        if value.type.WhichOneof("value") != "tensor_type":
            continue
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            is_unset = dim.WhichOneof("value") is None or (dim.HasField("dim_param") and not dim.dim_param)
            if is_unset or (dim.HasField("dim_value") and dim.dim_value < 0):
                dim.dim_param = dynamic_name(value.name, axis)
                named += 1
    return f"{named} dimensions that vary were given a name" if named else ""


def _infer_output_shapes(model: Model) -> str:
    """Fill in outputs whose shape the file leaves out, where ONNX's own inference finds it."""
    vague = [value for value in model.graph.output if _is_vague(value)]
    if not vague:
        return ""
    inferred = {value.name: value for value in _inferred_outputs(model)}
    filled = []
    for value in vague:
        found = inferred.get(value.name)
        if found is not None and not _is_vague(found):
            value.type.CopyFrom(found.type)
            filled.append(value.name)
    if filled:
        _name_dimensions(model)
    return f"the shape of {', '.join(filled)} was inferred" if filled else ""


def _is_vague(value: Any) -> bool:  # onnx.ValueInfoProto
    kind = value.type.WhichOneof("value")
    return kind is None or (kind == "tensor_type" and not value.type.tensor_type.HasField("shape"))


def _inferred_outputs(model: Model) -> list[Any]:  # onnx.ValueInfoProto
    import onnx

    try:
        return list(onnx.shape_inference.infer_shapes(model).graph.output)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return []
