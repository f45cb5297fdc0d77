"""Resize 8-bit pictures in a graph as OpenCV does, to the last bit: ONNX's own Resize rounds otherwise."""

from dataclasses import dataclass

from ferryman.export.in_graph.sketch import Sketch

_ONE = 2048.0  # fixed-point weights have 11 bits
KNOWN = ("bilinear", "nearest")


@dataclass(frozen=True, slots=True)
class Side:
    """Name the scalars (int64) of one side: the picture's length, what it is resized to, and the part that is cut."""

    size: str
    resized: str
    start: str
    length: str


def resize(sketch: Sketch, pictures: str, down: Side, across: Side, how: str) -> str:
    """Give uint8 [B, height, width, 3] of such pictures of another size."""
    if how == "nearest":
        rows = sketch("Gather", pictures, _nearest(sketch, down), axis=1)
        return sketch("Gather", rows, _nearest(sketch, across), axis=2)
    columns = _taps(sketch, across, is_across=True)
    rows_ = _taps(sketch, down, is_across=False)
    both = [
        _weigh_row(sketch, sketch("Gather", pictures, index, axis=1), columns, _upright(sketch, weight))
        for index, weight in rows_
    ]
    sum_ = sketch("Add", sketch("Add", *both), sketch.constant(2.0, "float64"))
    pixels = sketch.cast(_floored(sketch, sum_, 4.0, "float64"), "uint8")
    return sketch("Reshape", pixels, sketch.constant([0, 0, -1, 3], "int64"))


def _weigh_row(sketch: Sketch, rows: str, columns: list[tuple[str, str]], weight: str) -> str:
    """Give one of the two rows that are blended, [B, height, width * 3].

    It is shortened to 16 bits before its weight and after, as OpenCV does. Colours lie in one row with their weights
    repeated: to weigh them in threes takes engines several times as long.
    """
    flat = sketch.constant([0, 0, -1], "int64")
    parts = [
        sketch(
            "Mul",
            sketch.cast(sketch("Reshape", sketch("Gather", rows, index, axis=2), flat), "float32"),
            _for_colours(sketch, share),
        )
        for index, share in columns
    ]
    # Whole numbers of at most 19 bits: float32 holds them exactly. Their product with a weight takes float64.
    line = _floored(sketch, sketch("Add", *parts), 16.0, "float32")
    return _floored(sketch, sketch("Mul", sketch.cast(line, "float64"), weight), 65536.0, "float64")


def _floored(sketch: Sketch, value: str, divisor: float, dtype: str) -> str:
    return sketch("Floor", sketch("Mul", value, sketch.constant(1.0 / divisor, dtype)))


def _for_colours(sketch: Sketch, weights: str) -> str:
    """Repeat each weight for the three colours."""
    upright = sketch("Reshape", weights, sketch.constant([-1, 1], "int64"))
    threes = sketch("Mul", upright, sketch.constant([[1.0, 1.0, 1.0]], "float32"))
    return sketch("Reshape", threes, sketch.constant([-1], "int64"))


def _upright(sketch: Sketch, weights: str) -> str:
    return sketch("Reshape", sketch.cast(weights, "float64"), sketch.constant([-1, 1], "int64"))


def divide(sketch: Sketch, number: str, by: str) -> tuple[str, str]:
    """Give quotient and rest of whole numbers (int64, from 0 on, below 2**31: some engines have no more)."""
    whole = sketch("Div", number, by)
    rest = sketch("Sub", number, sketch("Mul", whole, by))
    # OpenVINO divides as float32 does: one off from 2**24 on. What it leaves is right, and below 0 or too much then.
    share = sketch("Div", sketch.cast(rest, "float64"), sketch.cast(by, "float64"))
    missing = sketch.cast(sketch("Floor", share), "int64")
    return sketch("Add", whole, missing), sketch("Sub", rest, sketch("Mul", missing, by))


def last_bit(sketch: Sketch, computed: str, exact: str) -> str:
    """Give by how much float64 missed the exact number; 0 for whatever is more than its last bits (or of float32)."""
    missed = sketch("Sub", computed, exact)
    is_tiny = sketch("Less", sketch("Abs", missed), sketch.constant(1e-10, "float64"))
    return sketch("Where", is_tiny, missed, sketch.constant(0.0, "float64"))


def _nearest(sketch: Sketch, side: Side) -> str:
    one = sketch.constant(1, "int64")
    places = sketch("Range", side.start, sketch("Add", side.start, side.length), one)
    exact, _ = divide(sketch, sketch("Mul", places, side.size), side.resized)
    # OpenCV divides twice, and may end below a whole number. As Div the second would be fused with the Mul, which
    # rounds once.
    size, resized = sketch.cast(side.size, "float64"), sketch.cast(side.resized, "float64")
    product = sketch("Mul", sketch.cast(places, "float64"), sketch("Reciprocal", sketch("Div", resized, size)))
    missed = last_bit(sketch, product, sketch.cast(exact, "float64"))
    below = sketch.cast(sketch("Less", missed, sketch.constant(0.0, "float64")), "int64")
    return sketch("Min", sketch("Sub", exact, below), sketch("Sub", side.size, one))


def _taps(sketch: Sketch, side: Side, *, is_across: bool) -> list[tuple[str, str]]:
    """Give the index (int64) and the weight (float32, whole, 2048 in sum) of both neighbours of each output place."""
    zero, one = sketch.constant(0.0, "float32"), sketch.constant(1.0, "float32")
    at = _middles(sketch, side)
    first = sketch("Floor", at)
    share = sketch("Sub", at, first)
    last = sketch("Sub", sketch.cast(side.size, "float32"), one)
    if is_across:
        outside = sketch("Or", sketch("Less", first, zero), sketch("Not", sketch("Less", first, last)))
        share = sketch("Where", outside, zero, share)

    def index(place: str) -> str:
        return sketch.cast(sketch("Min", sketch("Max", place, zero), last), "int64")

    def weight(part: str) -> str:
        return sketch("Round", sketch("Mul", part, sketch.constant(_ONE, "float32")))

    return [(index(first), weight(sketch("Sub", one, share))), (index(sketch("Add", first, one)), weight(share))]


def _middles(sketch: Sketch, side: Side) -> str:
    """Give where in the picture the middle of each output pixel lies, as float32: (place + 0.5) * scale - 0.5.

    In whole numbers up to the last division: an engine that computes in float32 alone finds nearly the same places.
    """
    one, two = sketch.constant(1, "int64"), sketch.constant(2, "int64")
    places = sketch("Range", side.start, sketch("Add", side.start, side.length), one)
    twice = sketch("Mul", side.resized, two)
    above = sketch("Add", sketch("Mul", sketch("Add", sketch("Mul", places, two), one), side.size), side.resized)
    whole, rest = divide(sketch, above, twice)  # one too much, so that nothing here is below 0
    share = sketch("Div", sketch.cast(rest, "float64"), sketch.cast(twice, "float64"))
    return sketch.cast(sketch("Add", sketch.cast(sketch("Sub", whole, one), "float64"), share), "float32")
