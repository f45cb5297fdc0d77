"""Write a classifier's postprocessing as a graph: scores, and the best classes first."""

from collections.abc import Mapping
from typing import Any

from ferryman.core.signature import TensorSpec
from ferryman.export.in_graph.picture import name_in_graph
from ferryman.export.in_graph.sketch import Model, Port, Sketch

Bound = Mapping[str, Any]  # JSON


def write_classes(bound: Bound, port: TensorSpec, *, opset: int) -> Model:
    """Make the model that turns the output `port` into scores and classes [batch, k], and every class's score."""
    sketch = Sketch("post/", opset)
    flat = sketch("Reshape", name_in_graph(port.name), sketch.constant([0, -1], "int64"))
    scores = sketch.cast(flat, "float32")
    if bound["activation"] == "softmax":
        scores = sketch("Softmax", scores, axis=1)
    elif bound["activation"] == "sigmoid":
        scores = sketch("Sigmoid", scores)
    count = sketch("Gather", sketch("Shape", scores), sketch.constant([1], "int64"))
    most = sketch("Min", count, sketch.constant([bound["topK"]], "int64"))
    best, classes = sketch.several("TopK", scores, most, count=2, axis=1)
    for tensor, name in ((best, "scores"), (classes, "classes"), (scores, "class_scores")):
        sketch.name(tensor, name)
    return sketch.model([(name_in_graph(port.name), port.dtype, port.shape)], class_ports(bound, port))


def class_ports(bound: Bound, port: TensorSpec) -> tuple[Port, Port, Port]:
    """Describe what comes out."""
    batch = port.shape[0]
    sizes = [size for size in port.shape[1:] if isinstance(size, int)]
    total = 1
    for size in sizes:
        total *= size
    is_known = len(sizes) == len(port.shape) - 1
    most = min(total, bound["topK"]) if is_known else "k"
    return (
        ("scores", "float32", [batch, most]),
        ("classes", "int64", [batch, most]),
        ("class_scores", "float32", [batch, total if is_known else "classes"]),
    )
