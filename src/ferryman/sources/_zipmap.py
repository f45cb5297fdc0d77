"""Take ZipMap nodes off ONNX classifiers: a list of dictionaries a row is slow, and no tensor."""

from ferryman.sources._onnx_graph import Model


def remove_zipmap(model: Model) -> list[str]:
    """Make each output of a ZipMap the plain float tensor [batch, classes] that fed it; gives their names."""
    import onnx

    graph = model.graph
    first = graph.input[0].type.tensor_type.shape.dim if graph.input else []
    batch = (first[0].dim_param or first[0].dim_value or "batch") if first else "batch"
    removed = []
    for node in [node for node in graph.node if node.op_type == "ZipMap" and node.domain == "ai.onnx.ml"]:
        inner, outer = node.input[0], node.output[0]
        labels = next((len(a.ints) or len(a.strings) for a in node.attribute if a.name.startswith("classlabels")), 0)
        graph.node.remove(node)
        for other in graph.node:
            for index, name in enumerate(other.output):
                if name == inner:
                    other.output[index] = outer
            for index, name in enumerate(other.input):
                if name == inner:
                    other.input[index] = outer
        for value in graph.output:
            if value.name == outer:
                shape = [batch, labels or f"{outer}_1"]
                value.CopyFrom(onnx.helper.make_tensor_value_info(outer, onnx.TensorProto.FLOAT, shape))
        removed.append(outer)
    return removed
