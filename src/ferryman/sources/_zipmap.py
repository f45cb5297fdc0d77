"""Take ZipMap nodes off ONNX classifiers: a list of dictionaries a row is slow, and no tensor."""

from typing import Any

from ferryman.sources._onnx_graph import Model, rename_tensors


def remove_zipmap(model: Model) -> list[str]:
    """Make each output of a ZipMap the plain float tensor [batch, classes] that fed it; gives their names."""
    nodes = [node for node in model.graph.node if node.op_type == "ZipMap" and node.domain == "ai.onnx.ml"]
    for node in nodes:
        model.graph.node.remove(node)
        rename_tensors(model, {node.input[0]: node.output[0]})
        for value in model.graph.output:
            if value.name == node.output[0]:
                _make_tensor(value, _batch(model), _classes(node))
    return [node.output[0] for node in nodes]


def _make_tensor(value: Any, batch: int | str, classes: int) -> None:  # onnx.ValueInfoProto
    import onnx

    shape = [batch, classes or f"{value.name}_1"]
    value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, shape))


def _batch(model: Model) -> int | str:
    dims = model.graph.input[0].type.tensor_type.shape.dim if model.graph.input else []
    return (dims[0].dim_param or dims[0].dim_value or "batch") if dims else "batch"


def _classes(node: Any) -> int:  # onnx.NodeProto
    return next((len(a.ints) or len(a.strings) for a in node.attribute if a.name.startswith("classlabels")), 0)
