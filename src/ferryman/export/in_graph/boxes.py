"""Write a detector's postprocessing as a graph: decode, suppress, and map boxes back to the pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ferryman.core.signature import Signature
from ferryman.export.in_graph.picture import PLACEMENT, name_in_graph
from ferryman.export.in_graph.sketch import Model, Port, Sketch

Bound = Mapping[str, Any]  # JSON

_OUTPUTS = ("output", "boxes", "scores", "classes", "count")
"""Keys of a decoder that name outputs of the model."""
_REFUSED = -1.0
"""The score of what is no candidate."""
BOX_PORTS: tuple[Port, ...] = (
    ("boxes", "float32", ["found", 4]),
    ("scores", "float32", ["found"]),
    ("classes", "int64", ["found"]),
    ("picture_index", "int64", ["found"]),
)


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Name tensors: corners [B, N, 4] in input pixels, scores [B, C, N] (C alternatives a box), their classes.

    `classes` is None where the alternative's number is the class, else float32 [B, N] (and C is 1).
    """

    corners: str
    scores: str
    classes: str | None


def write_boxes(bound: Bound, signature: Signature, *, opset: int) -> Model:
    """Make the model that turns a detector's outputs and the pictures' placement into boxes."""
    sketch = Sketch("post/", opset)
    nms = bound["nms"]
    used = {key: name for key in _OUTPUTS if (name := bound["decoder"].get(key))}
    decoder = {**bound["decoder"], **{key: name_in_graph(name) for key, name in used.items()}}
    candidates = _dense(sketch, decoder, bound["input"]) if decoder["layout"] == "dense" else _listed(sketch, decoder)
    scores = _admitted(sketch, candidates, decoder["score"])
    if nms["suppresses"]:
        corners, scores, classes = _suppressed(sketch, candidates, scores, nms, multi=decoder["multiLabel"])
        candidates = _Candidates(corners, scores, classes)
    _answer(sketch, candidates, scores, nms["max"], decoder["score"])
    own = [port for port in signature.outputs if port.name in used.values()]
    ports: list[Port] = [(name_in_graph(port.name), port.dtype, port.shape) for port in own]
    return sketch.model([*ports, (PLACEMENT, "float32", [6])], BOX_PORTS)


def _part(sketch: Sketch, tensor: str, start: int, end: int, axis: int = 2) -> str:
    bounds = (sketch.constant([number], "int64") for number in (start, end, axis))
    return sketch("Slice", tensor, *bounds)


_TO_THE_END = 2**31 - 1


def _dense(sketch: Sketch, decoder: Bound, port: Bound) -> _Candidates:
    rows = sketch.cast(decoder["output"], "float32")
    if decoder["isTransposed"]:
        rows = sketch("Transpose", rows, perm=[0, 2, 1])
    centres, sides = _part(sketch, rows, 0, 2), _part(sketch, rows, 2, 4)
    if decoder["strides"] is not None:
        cells, strides = _grid(decoder["strides"], (port["height"], port["width"]))
        stride = sketch.constant(strides, "float32")
        centres = sketch("Mul", sketch("Add", centres, sketch.constant(cells, "float32")), stride)
        limited = sketch("Min", sides, sketch.constant(30.0, "float32"))
        sides = sketch("Mul", sketch("Exp", limited), stride)
    half = sketch("Mul", sides, sketch.constant(0.5, "float32"))
    corners = sketch("Concat", sketch("Sub", centres, half), sketch("Add", centres, half), axis=2)
    scores = _part(sketch, rows, 5 if decoder["hasObjectness"] else 4, _TO_THE_END)
    if decoder["hasObjectness"]:
        scores = sketch("Mul", scores, _part(sketch, rows, 4, 5))
    by_class = sketch("Transpose", scores, perm=[0, 2, 1])
    if not decoder["multiLabel"]:
        by_class = _best_only(sketch, scores, by_class)
    return _Candidates(corners, by_class, None)


def _grid(strides: Sequence[int], size: tuple[int, int]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Give each row's cell [N, 2] (x, y) and stride [N, 1], as YOLOX lists them."""
    cells, sizes = [], []
    for stride in strides:
        rows, columns = np.mgrid[: size[0] // stride, : size[1] // stride]
        cells.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        sizes.append(np.full((rows.size, 1), stride))
    return np.concatenate(cells), np.concatenate(sizes)


def _best_only(sketch: Sketch, scores: str, by_class: str) -> str:
    """Refuse every class of a box but its best (the first of equal ones)."""
    best = sketch("ArgMax", scores, axis=2, keepdims=0)  # [B, N]
    best = sketch("Unsqueeze", best, sketch.constant([1], "int64"))
    count = sketch("Gather", sketch("Shape", by_class), sketch.constant(1, "int64"))
    numbers = sketch("Range", sketch.constant(0, "int64"), count, sketch.constant(1, "int64"))
    numbers = sketch("Reshape", numbers, sketch.constant([-1, 1], "int64"))
    return sketch("Where", sketch("Equal", numbers, best), by_class, sketch.constant(_REFUSED, "float32"))


def _listed(sketch: Sketch, decoder: Bound) -> _Candidates:
    if decoder["layout"] == "rows":
        rows = sketch("Reshape", sketch.cast(decoder["output"], "float32"), _batched(sketch, decoder["output"], 6))
        boxes, scores, classes = (_part(sketch, rows, start, end) for start, end in ((0, 4), (4, 5), (5, 6)))
    else:
        boxes, scores, classes = (
            sketch("Reshape", sketch.cast(decoder[key], "float32"), _batched(sketch, decoder["boxes"], 4, width))
            for key, width in (("boxes", 4), ("scores", 1), ("classes", 1))
        )
    flat = sketch.constant([0, -1], "int64")
    numbers = sketch("Sub", sketch("Reshape", classes, flat), sketch.constant(decoder["firstClass"], "float32"))
    scores = sketch("Reshape", scores, flat)
    valid = sketch("Not", sketch("Less", numbers, sketch.constant(0.0, "float32")))
    if decoder.get("count"):
        valid = sketch("And", valid, _counted(sketch, scores, decoder["count"]))
    scores = sketch("Where", valid, scores, sketch.constant(_REFUSED, "float32"))
    scores = sketch("Unsqueeze", scores, sketch.constant([1], "int64"))
    return _Candidates(_corners(sketch, boxes, decoder), scores, numbers)


def _batched(sketch: Sketch, tensor: str, own: int, width: int | None = None) -> str:
    """Give the shape [B, N, width] of what is [B, N, own] or, for one picture, [N, own]."""
    sizes = sketch("Concat", sketch.constant([1], "int64"), sketch("Shape", tensor), axis=0)
    sizes = sketch("Slice", sizes, *(sketch.constant([number], "int64") for number in (-3, -1)))
    return sketch("Concat", sizes, sketch.constant([own if width is None else width], "int64"), axis=0)


def _counted(sketch: Sketch, scores: str, count: str) -> str:
    """Tell of each place [B, N] whether it is among the first `count` of its picture."""
    many = sketch("Gather", sketch("Shape", scores), sketch.constant(1, "int64"))
    places = sketch("Range", sketch.constant(0, "int64"), many, sketch.constant(1, "int64"))
    limit = sketch("Reshape", sketch.cast(count, "int64"), sketch.constant([-1, 1], "int64"))
    return sketch("Less", places, limit)


def _corners(sketch: Sketch, boxes: str, decoder: Bound) -> str:
    boxes = sketch("Mul", boxes, sketch.constant(decoder["factor"], "float32"))
    if decoder["boxFormat"] == "yxyx":
        return sketch("Gather", boxes, sketch.constant([1, 0, 3, 2], "int64"), axis=2)
    first, second = _part(sketch, boxes, 0, 2), _part(sketch, boxes, 2, 4)
    if decoder["boxFormat"] == "xywh":
        return sketch("Concat", first, sketch("Add", first, second), axis=2)
    if decoder["boxFormat"] == "cxcywh":
        half = sketch("Mul", second, sketch.constant(0.5, "float32"))
        return sketch("Concat", sketch("Sub", first, half), sketch("Add", first, half), axis=2)
    return boxes


def _admitted(sketch: Sketch, candidates: _Candidates, least: float) -> str:
    """Refuse what is below the least score, and boxes whose numbers are not finite."""
    far = sketch.reduce("ReduceMax", sketch("Abs", candidates.corners), 2)  # [B, N]
    near = sketch("Less", far, sketch.constant(1e30, "float32"))  # of NaN it is false
    near = sketch("Unsqueeze", near, sketch.constant([1], "int64"))
    enough = sketch("GreaterOrEqual", candidates.scores, sketch.constant(least, "float32"))
    is_good = sketch("And", enough, near)
    return sketch("Where", is_good, candidates.scores, sketch.constant(_REFUSED, "float32"))


def _suppressed(
    sketch: Sketch, candidates: _Candidates, scores: str, nms: Bound, *, multi: bool
) -> tuple[str, str, str | None]:
    """Refuse all but what non-maximum suppression keeps; gives corners, scores and classes for `_Candidates`."""
    # Where sides are below 0 engines swap the corners; Python sees an empty box, which overlaps none.
    first, second = _part(sketch, candidates.corners, 0, 2), _part(sketch, candidates.corners, 2, 4)
    corners, classes = sketch("Concat", first, sketch("Max", first, second), axis=2), candidates.classes
    if nms["agnostic"]:
        corners, scores, classes = _merged(sketch, corners, scores, multi=multi)
    kept = sketch(
        "NonMaxSuppression",
        corners,
        scores,
        sketch.constant([nms["max"]], "int64"),
        sketch.constant([_beyond(nms["iou"])], "float32"),
        sketch.constant([_REFUSED / 2], "float32"),
    )
    refused = sketch("ConstantOfShape", sketch("Shape", scores), value=_tensor(_REFUSED))
    return corners, sketch("ScatterND", refused, kept, sketch("GatherND", scores, kept)), classes


def _beyond(overlap: float) -> np.float32:
    """Give the least overlap that drops a box: OpenVINO drops from its limit on, Python and ONNX Runtime beyond it."""
    above = np.nextafter(np.float32(overlap), np.float32(1))
    return max(above, np.finfo(np.float32).tiny)  # what is less counts as 0


def _merged(sketch: Sketch, corners: str, scores: str, *, multi: bool) -> tuple[str, str, str]:
    """Put all classes [B, C, N] in one row [B, 1, C*N], for a suppression that doesn't tell them apart."""
    one = sketch.constant([1], "int64")
    if not multi:  # one class a box: the best is the only one
        best, classes = sketch.reduce("ReduceMax", scores, 1, keepdims=1), sketch("ArgMax", scores, axis=1, keepdims=0)
        return corners, best, sketch.cast(classes, "float32")
    shape = sketch("Shape", scores)
    classes, boxes = (sketch("Gather", shape, sketch.constant([axis], "int64")) for axis in (1, 2))
    repeats = sketch("Concat", one, classes, one, axis=0)
    flat = sketch("Reshape", scores, sketch.constant([0, 1, -1], "int64"))
    total = sketch("Gather", sketch("Shape", flat), sketch.constant(2, "int64"))
    places = sketch("Range", sketch.constant(0, "int64"), total, sketch.constant(1, "int64"))
    numbers = sketch("Reshape", sketch.cast(sketch("Div", places, boxes), "float32"), sketch.constant([1, -1], "int64"))
    every = sketch(
        "Expand", numbers, sketch("Concat", sketch("Gather", shape, sketch.constant([0], "int64")), one, axis=0)
    )
    return sketch("Tile", corners, repeats), flat, every


def _answer(sketch: Sketch, candidates: _Candidates, scores: str, most: int, least: float) -> None:
    """Take each picture's best, map them to its pixels and list all pictures' boxes one after the other."""
    alternatives = sketch("Gather", sketch("Shape", scores), sketch.constant([1], "int64"))
    by_box = sketch("Transpose", scores, perm=[0, 2, 1])  # of equal scores the first box goes first
    flat = sketch("Reshape", by_box, sketch.constant([0, -1], "int64"))
    total = sketch("Gather", sketch("Shape", flat), sketch.constant([1], "int64"))
    limit = sketch("Min", total, sketch.constant([most], "int64"))
    best, places = sketch.several("TopK", flat, limit, count=2, axis=1)  # [B, K]
    row = sketch("Div", places, alternatives)
    number = sketch("Sub", places, sketch("Mul", row, alternatives))
    picked = sketch("Unsqueeze", row, sketch.constant([2], "int64"))
    corners = sketch("GatherND", candidates.corners, picked, batch_dims=1)
    classes = number
    if candidates.classes is not None:
        classes = sketch.cast(sketch("GatherND", candidates.classes, picked, batch_dims=1), "int64")
    corners = _to_picture(sketch, corners)
    has_area = sketch("Less", _part(sketch, corners, 0, 2), _part(sketch, corners, 2, 4))
    extent = sketch.reduce("ReduceMin", sketch.cast(has_area, "float32"), 2)
    shown = sketch(
        "And", sketch.cast(extent, "bool"), sketch("GreaterOrEqual", best, sketch.constant(least, "float32"))
    )
    found = sketch("Transpose", sketch("NonZero", shown), perm=[1, 0])  # [found, 2]
    for tensor, name in ((corners, "boxes"), (best, "scores"), (classes, "classes")):
        sketch.name(sketch("GatherND", tensor, found), name)
    index = sketch("Reshape", _part(sketch, found, 0, 1, axis=1), sketch.constant([-1], "int64"))
    sketch.name(index, "picture_index")


def _to_picture(sketch: Sketch, corners: str) -> str:
    """Map input pixels to the pictures' own, clipped to them."""
    scale, offset, size = (
        sketch("Gather", PLACEMENT, sketch.constant([start, start + 1] * 2, "int64")) for start in (0, 2, 4)
    )
    moved = sketch("Div", sketch("Sub", corners, offset), scale)
    return sketch("Min", sketch("Max", moved, sketch.constant(0.0, "float32")), size)


def _tensor(value: float) -> Any:  # onnx.TensorProto
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray([value], np.float32))
