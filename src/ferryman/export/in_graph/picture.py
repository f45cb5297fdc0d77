"""Write a task's preprocessing of pictures as a graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ferryman.core.errors import NotApplicable
from ferryman.export.in_graph.resample import KNOWN, Side, divide, last_bit, resize
from ferryman.export.in_graph.sketch import Model, Sketch

PICTURES = "pictures"
"""The graph's input: uint8 [batch, height, width, 3], red first."""
INPUT = "ferryman/input"
"""What the graph makes of them for the model."""
PLACEMENT = "ferryman/placement"
"""What lies where in the model's input, float32 [6]: scale x and y, left, top, the pictures' width and height."""

MODEL = "model/"
"""What all names of the model itself begin with in the whole."""

Bound = Mapping[str, Any]  # JSON


def name_in_graph(output: str) -> str:
    """Give the name that an output of the model has within the whole."""
    return f"{MODEL}{output}"


@dataclass(frozen=True, slots=True)
class _Fitted:
    """Name one side's scalars (int64): how it is resized, and how far from its start the picture lies (crop: < 0)."""

    side: Side
    offset: str


def write_pictures(port: Bound, batch: int | str, *, opset: int) -> Model:
    """Make the model that turns pictures into the input that `port` describes; raises NotApplicable for some resizes.

    `port` is an image spec bound to a model: every choice made.
    """
    if port["resize"] not in KNOWN:
        raise NotApplicable(
            f"[task] input.resize = '{port['resize']}' can't be put in the graph: ONNX has no such operator",
            hint=f"{' and '.join(KNOWN)} can; or leave build.in_graph out",
        )
    sketch = Sketch("pre/", opset)
    down, across = _fit(sketch, port)
    pixels = resize(sketch, PICTURES, down.side, across.side, port["resize"])
    if port["fit"] == "letterbox":
        pixels = _pad(sketch, pixels, port, down, across)
    sketch.name(_fill(sketch, pixels, port), INPUT)
    lengths = [across.side.resized, down.side.resized, across.offset, down.offset, across.side.size, down.side.size]
    wide, high, *places = (sketch.cast(length, "float64") for length in lengths)
    placement = [sketch("Div", wide, places[2]), sketch("Div", high, places[3]), *places]
    row = sketch.constant([1], "int64")
    joined = sketch("Concat", *(sketch("Reshape", scalar, row) for scalar in placement), axis=0)
    sketch.name(sketch.cast(joined, "float32"), PLACEMENT)
    count = 1 if port["channels"] == "GRAY" else 3
    sides = [port["height"], port["width"]]
    shape = [batch, count, *sides] if port["layout"] == "NCHW" else [batch, *sides, count]
    return sketch.model(
        [(PICTURES, "uint8", [batch, "height", "width", 3])],
        [(INPUT, port["dtype"], shape), (PLACEMENT, "float32", [6])],
    )


def _fit(sketch: Sketch, port: Bound) -> tuple[_Fitted, _Fitted]:
    """Work out both sides: what `ImagePort` does with numbers, done with scalars of the graph."""
    shape = sketch("Shape", PICTURES)
    height, width = (sketch("Gather", shape, sketch.constant(axis, "int64")) for axis in (1, 2))
    wanted = [sketch.constant(port[name], "int64") for name in ("height", "width")]
    if port["fit"] == "stretch":
        zero = sketch.constant(0, "int64")
        down, across = (Side(size, want, zero, want) for size, want in zip((height, width), wanted, strict=True))
        return _Fitted(down, zero), _Fitted(across, zero)
    ratio = _ratio(sketch, port, (height, width), (wanted[0], wanted[1]))
    fitted = _letterboxed if port["fit"] == "letterbox" else _cropped
    return fitted(sketch, port, (height, wanted[0]), ratio), fitted(sketch, port, (width, wanted[1]), ratio)


def _ratio(sketch: Sketch, port: Bound, sizes: tuple[str, str], wanted: tuple[str, str]) -> tuple[str, str]:
    """Give what both sides are multiplied with, as two whole numbers: the second divides."""
    height, width = sizes
    if port["resizeShort"] is not None:
        return sketch.constant(port["resizeShort"], "int64"), sketch("Min", height, width)
    by_height, by_width = sketch("Mul", wanted[0], width), sketch("Mul", wanted[1], height)
    is_height = sketch("Less", *((by_height, by_width) if port["fit"] == "letterbox" else (by_width, by_height)))
    return sketch("Where", is_height, wanted[0], wanted[1]), sketch("Where", is_height, height, width)


def _letterboxed(sketch: Sketch, port: Bound, lengths: tuple[str, str], ratio: tuple[str, str]) -> _Fitted:
    size, wanted = lengths
    zero, one = sketch.constant(0, "int64"), sketch.constant(1, "int64")
    inner = sketch("Min", sketch("Max", _scaled(sketch, size, *ratio), one), wanted)
    return _Fitted(Side(size, inner, zero, inner), _margin(sketch, port, sketch("Sub", wanted, inner)))


def _cropped(sketch: Sketch, port: Bound, lengths: tuple[str, str], ratio: tuple[str, str]) -> _Fitted:
    size, wanted = lengths
    inner = sketch("Max", _scaled(sketch, size, *ratio), wanted)
    start = _margin(sketch, port, sketch("Sub", inner, wanted))
    return _Fitted(Side(size, inner, start, wanted), sketch("Neg", start))


def _scaled(sketch: Sketch, size: str, over: str, under: str) -> str:
    """Round size * (over / under) as Python does with float64, also in an engine that has float32 alone.

    Whole numbers tell whether the rest is less than a half, one, or more. Of halves Python takes the even neighbour,
    unless the product in float64 is a last bit off: that is seen where there is float64.
    """
    whole, rest = divide(sketch, sketch("Mul", size, over), under)
    half = sketch("Add", sketch.cast(whole, "float64"), sketch.constant(0.5, "float64"))
    ratio = sketch("Div", sketch.cast(over, "float64"), sketch.cast(under, "float64"))
    product = sketch("Mul", sketch.cast(size, "float64"), ratio)
    beyond = sketch.cast(sketch("Sub", sketch("Add", rest, rest), under), "float64")
    for part, weight in ((beyond, 0.25), (last_bit(sketch, product, half), 0.125)):
        half = sketch("Add", half, sketch("Mul", sketch("Sign", part), sketch.constant(weight, "float64")))
    return sketch.cast(sketch("Round", half), "int64")


def _margin(sketch: Sketch, port: Bound, rest: str) -> str:
    if port["anchor"] != "center":
        return sketch.constant(0, "int64")
    return sketch("Div", rest, sketch.constant(2, "int64"))


def _pad(sketch: Sketch, pixels: str, port: Bound, down: _Fitted, across: _Fitted) -> str:
    before = [down.offset, across.offset]
    after = [
        sketch("Sub", sketch("Sub", sketch.constant(port[name], "int64"), fitted.side.length), fitted.offset)
        for name, fitted in (("height", down), ("width", across))
    ]
    row, none = sketch.constant([1], "int64"), sketch.constant([0], "int64")
    top, left, bottom, right = (sketch("Reshape", part, row) for part in (*before, *after))
    pads = sketch("Concat", none, top, left, none, none, bottom, right, none, axis=0)
    return sketch("Pad", pixels, pads, sketch.constant(port["pad"], "uint8"))


def _fill(sketch: Sketch, pixels: str, port: Bound) -> str:
    """Turn uint8 pixels, red first, into the model's channels, layout, numbers and dtype."""
    is_planar = port["layout"] == "NCHW"
    if port["channels"] == "GRAY":
        pixels = _grey(sketch, pixels)
    if is_planar:
        pixels = sketch("Transpose", pixels, perm=[0, 3, 1, 2])
    if port["channels"] == "BGR":
        pixels = sketch("Gather", pixels, sketch.constant([2, 1, 0], "int64"), axis=1 if is_planar else 3)
    if port["gain"] is None:
        return pixels
    values = sketch.cast(pixels, "float32")
    trailing = (1, 1) if is_planar else ()
    for op, neutral, numbers in (("Mul", 1.0, port["gain"]), ("Add", 0.0, port["shift"])):
        if any(number != neutral for number in numbers):
            shaped = numbers
            for _ in trailing:
                shaped = [[each] for each in shaped]
            values = sketch(op, values, sketch.constant(shaped, "float32"))
    return _as_dtype(sketch, values, port["dtype"])


def _grey(sketch: Sketch, pixels: str) -> str:
    """Weigh the colours as OpenCV does: fixed-point weights of 15 bits, halves up."""
    weights = sketch.constant([9798.0, 19235.0, 3735.0], "float32")
    # At most 23 bits each, and in sum: float32 holds them exactly.
    weighed = sketch("Mul", sketch.cast(pixels, "float32"), weights)
    red, green, blue = (sketch("Gather", weighed, sketch.constant([channel], "int64"), axis=3) for channel in range(3))
    total = sketch("Add", sketch("Add", sketch("Add", red, green), blue), sketch.constant(16384.0, "float32"))
    return sketch.cast(sketch("Floor", sketch("Mul", total, sketch.constant(1 / 32768, "float32"))), "uint8")


def _as_dtype(sketch: Sketch, values: str, dtype: str) -> str:
    if dtype == "float32":
        return values
    if dtype.startswith("float"):
        return sketch.cast(values, dtype)
    low, high = (-128.0, 127.0) if dtype == "int8" else (0.0, 255.0)
    limits = sketch.constant(low, "float32"), sketch.constant(high, "float32")
    return sketch.cast(sketch("Clip", sketch("Round", values), *limits), dtype)
