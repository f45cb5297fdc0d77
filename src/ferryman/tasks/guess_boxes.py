"""Guess a detector's decoder from the shapes of its outputs."""

from dataclasses import dataclass

from ferryman.core.signature import Signature, TensorSpec

_STRIDES = ((8, 16, 32), (8, 16), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32), (8,), (16,), (32,))
_MOST_LISTED = 1000


@dataclass(frozen=True, slots=True)
class BoxGuess:
    """Hold a decoder's name, the number of classes (None: not told), why, and what to check."""

    decoder: str
    class_count: int | None
    reason: str
    questions: tuple[str, ...] = ()


def guess_boxes(
    signature: Signature, size: tuple[int | None, int | None], named_classes: int | None
) -> BoxGuess | None:
    """Guess the decoder, or give None where the outputs are no boxes. `size` is (height, width)."""
    if len(signature.outputs) == 1:
        return _guess_single(signature.outputs[0], size, named_classes)
    has_boxes = any(len(port.shape) in (2, 3) and port.shape[-1] == 4 for port in signature.outputs)
    if has_boxes and len(signature.outputs) in (3, 4):
        names = ", ".join(port.name for port in signature.outputs)
        return BoxGuess(
            "nms",
            None,
            f"outputs {names}: one has 4 numbers a row, so boxes, scores and classes are listed",
            (
                "Are boxes x1, y1, x2, y2 in input pixels? If not, set box_format and normalized.",
                "Does class 0 mean the first label? If it is the background, set first_class = 1.",
            ),
        )
    rows = [port for port in signature.outputs if len(port.shape) == 3]
    return _guess_single(rows[0], size, named_classes) if len(rows) == 1 else None


def _guess_single(port: TensorSpec, size: tuple[int | None, int | None], named_classes: int | None) -> BoxGuess | None:
    shape = f"output '{port.name}' {list(port.shape)}"
    if len(port.shape) == 2 and port.shape[1] == 6 and not isinstance(port.shape[0], int):
        return BoxGuess("nms", None, f"{shape}: any number of rows of 6 is a list of boxes with score and class")
    if len(port.shape) != 3:
        return None
    _, first, second = port.shape
    if second == 6 and not (isinstance(first, int) and first > _MOST_LISTED):
        reason = f"{shape}: {first} rows of 6 are corners, score and class of boxes that need no suppression"
        return BoxGuess("end2end", named_classes, reason, ("Are the 6 numbers x1, y1, x2, y2, score, class?",))
    cells = _cell_counts(size)
    if isinstance(first, int) and (second in cells or second in (8400, 2100, 3549)) and first > 4:
        count = first - 4
        return BoxGuess("yolov8", count, f"{shape}: {second} is one box a grid cell, {first} = 4 + {count} classes")
    if not isinstance(second, int) or not isinstance(first, int) or second < 6:
        return None
    return _guess_rows(shape, first, second, cells, named_classes)


def _guess_rows(shape: str, rows: int, width: int, cells: dict[int, str], named_classes: int | None) -> BoxGuess | None:
    if rows in cells:
        if width == 84 or width - 4 == named_classes:
            reason = f"{shape}: {rows} is one box a grid cell, {width} = 4 + {width - 4} classes"
            return BoxGuess("yolov8", width - 4, reason)
        return BoxGuess(
            "yolox",
            width - 5,
            f"{shape}: {rows} is one box a cell of the grids of stride {cells[rows]}, "
            f"{width} = 4 + objectness + {width - 5} classes",
            ("Are boxes raw (offsets in the grid)? If the graph decodes them to pixels, use decoder = 'yolov5'.",),
        )
    if rows % 3 == 0 and rows // 3 in cells:
        reason = (
            f"{shape}: {rows} is three boxes a cell of the grids of stride {cells[rows // 3]}, "
            f"{width} = 4 + objectness + {width - 5} classes"
        )
        return BoxGuess("yolov5", width - 5, reason)
    return None


def _cell_counts(size: tuple[int | None, int | None]) -> dict[int, str]:
    """Give the strides of the grids by their number of cells, for inputs of this size."""
    height, width = size
    if height is None or width is None:
        return {}
    return {
        sum((height // stride) * (width // stride) for stride in strides): "/".join(map(str, strides))
        for strides in _STRIDES
    }
