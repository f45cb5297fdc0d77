"""Decode detectors' outputs into boxes: one small class a layout, chosen by name."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ferryman.core.errors import ConfigError
from ferryman.core.signature import Array, Signature, TensorSpec
from ferryman.tasks.boxes import Boxes, Floats
from ferryman.tasks.detect_spec import DetectSpec
from ferryman.tasks.listed_boxes import bind_listed

_STRIDES = ((8, 16, 32), (8, 16), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32), (8,), (16,), (32,))
_MOST_CANDIDATES = 30_000


class Decoder(Protocol):
    """Turn a batch's outputs into each picture's boxes, in input pixels; scores below the spec's are left out."""

    def decode(self, outputs: Mapping[str, Array]) -> Iterator[Boxes]:
        """Yield the boxes of one picture after the other."""


def bind_decoder(spec: DetectSpec, signature: Signature, size: tuple[int, int], class_count: int | None) -> Decoder:
    """Fit the spec's decoder to the model; raises ConfigError that says which shape doesn't fit. `size` is (H, W)."""
    if spec.decoder in ("nms", "end2end"):
        return bind_listed(spec, signature, size)
    port = _dense_output(spec, signature)
    rows, width, is_transposed = _dense_shape(spec, port, class_count)
    box_width = 4 if spec.decoder == "yolov8" else 5
    if class_count is not None and width != box_width + class_count:
        layout = "4" if box_width == 4 else "5 (box and objectness)"
        raise ConfigError(
            f"[task] decoder '{spec.decoder}': output '{port.name}' is {list(port.shape)}: {width} = {layout} + "
            f"{width - box_width} classes, but there are {class_count} labels",
            hint="give one label a class, in the model's order; or is it another decoder?",
        )
    grid = _grid(spec, port, rows, size) if spec.decoder == "yolox" else None
    return DenseDecoder(
        output=port.name,
        is_transposed=is_transposed,
        has_objectness=box_width == 5,
        grid=grid,
        score=spec.nms.score,
        multi_label=spec.nms.multi_label,
    )


@dataclass(frozen=True, slots=True)
class DenseDecoder:
    """Decode one row a candidate: cx, cy, w, h, then objectness (or not), then a score a class.

    `grid` is None where boxes are in input pixels already; else float64 [N, 3] of each row's cell (x, y, stride), as
    YOLOX has it: centre = (offset + cell) * stride, side = exp(log side) * stride.
    """

    output: str
    is_transposed: bool
    has_objectness: bool
    grid: Floats | None
    score: float
    multi_label: bool

    def decode(self, outputs: Mapping[str, Array]) -> Iterator[Boxes]:
        """Yield the boxes of one picture after the other."""
        for picture in outputs[self.output]:
            yield self._decode_rows(np.asarray(picture.T if self.is_transposed else picture, np.float32))

    def _decode_rows(self, rows: NDArray[np.float32]) -> Boxes:
        class_scores = rows[:, 5 if self.has_objectness else 4 :]
        chosen = np.flatnonzero(rows[:, 4] >= self.score) if self.has_objectness else np.arange(len(rows))
        # Objectness bounds the product, so most rows are gone before their classes are looked at.
        chosen = chosen[class_scores[chosen].max(axis=1, initial=0.0) >= self.score] if chosen.size else chosen
        scores = class_scores[chosen].astype(np.float64)
        if self.has_objectness:
            scores *= rows[chosen, 4:5]
        places, classes = self._choose_classes(scores)
        values = scores[places, classes]
        if values.size > _MOST_CANDIDATES:
            best = np.sort(np.argpartition(-values, _MOST_CANDIDATES)[:_MOST_CANDIDATES])
            places, classes, values = places[best], classes[best], values[best]
        return Boxes(self._corners(rows, chosen[places]), values, classes)

    def _choose_classes(self, scores: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self.multi_label:
            places, classes = np.nonzero(scores >= self.score)
            return places, classes
        if not scores.size:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        best = scores.argmax(axis=1)
        places = np.flatnonzero(scores[np.arange(len(scores)), best] >= self.score)
        return places, best[places]

    def _corners(self, rows: NDArray[np.float32], chosen: NDArray[np.int64]) -> Floats:
        boxes = rows[chosen, :4].astype(np.float64)
        if self.grid is not None:
            if len(self.grid) != len(rows):
                raise ConfigError(f"output '{self.output}' has {len(rows)} rows; its grids have {len(self.grid)} cells")
            cells = self.grid[chosen]
            boxes[:, :2] = (boxes[:, :2] + cells[:, :2]) * cells[:, 2:]
            # e^30 pixels is beyond any picture; the limit keeps a broken model's numbers finite.
            boxes[:, 2:] = np.exp(np.minimum(boxes[:, 2:], 30.0)) * cells[:, 2:]
        half = boxes[:, 2:] / 2
        return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def _dense_output(spec: DetectSpec, signature: Signature) -> TensorSpec:
    ports = {port.name: port for port in signature.outputs}
    if spec.outputs.boxes is not None:
        if spec.outputs.boxes not in ports:
            raise ConfigError(
                f"[task] outputs.boxes = '{spec.outputs.boxes}' is no output of the model", hint=f"it has {list(ports)}"
            )
        return ports[spec.outputs.boxes]
    fitting = [port for port in signature.outputs if len(port.shape) == 3]
    if len(fitting) != 1:
        shapes = ", ".join(f"'{port.name}' {list(port.shape)}" for port in signature.outputs)
        raise ConfigError(
            f"[task] decoder '{spec.decoder}' needs one output of 3 dimensions; the model has {shapes}",
            hint="name it: [task] outputs = { boxes = 'NAME' }, or use decoder = 'nms'",
        )
    return fitting[0]


def _dense_shape(spec: DetectSpec, port: TensorSpec, class_count: int | None) -> tuple[int | None, int, bool]:
    """Give rows (None: varies), row width and whether rows are the last dimension."""
    if len(port.shape) != 3:
        raise ConfigError(f"[task] decoder '{spec.decoder}': output '{port.name}' is {list(port.shape)}, not 3-D")
    _, first, second = port.shape
    box_width = 4 if spec.decoder == "yolov8" else 5
    is_transposed = False
    if spec.decoder == "yolov8":
        known = None if class_count is None else box_width + class_count
        if known is not None and known in (first, second):
            is_transposed = first == known
        else:
            is_transposed = not isinstance(first, str) and (isinstance(second, str) or first < second)
    rows, width = (second, first) if is_transposed else (first, second)
    if isinstance(width, str) or width <= box_width:
        raise ConfigError(
            f"[task] decoder '{spec.decoder}': output '{port.name}' is {list(port.shape)}; it needs {box_width} "
            "numbers of a box and at least one class in each row",
            hint="ferryman init guesses the decoder from the shapes",
        )
    return (rows if isinstance(rows, int) else None), width, is_transposed


def _grid(spec: DetectSpec, port: TensorSpec, rows: int | None, size: tuple[int, int]) -> Floats:
    known = (spec.strides,) if spec.strides else _STRIDES
    for strides in known:
        cells = _cells(strides, size)
        if rows is None or len(cells) == rows:
            return cells
    counts = ", ".join(f"{'/'.join(map(str, strides))}: {len(_cells(strides, size))}" for strides in known)
    raise ConfigError(
        f"[task] decoder 'yolox': output '{port.name}' is {list(port.shape)}, but grids on {list(size)} pixels have "
        f"another number of cells ({counts})",
        hint="check input.size; 3 boxes a cell mean decoder = 'yolov5'; other grids need strides = [...]",
    )


def _cells(strides: tuple[int, ...], size: tuple[int, int]) -> Floats:
    grids = []
    for stride in strides:
        rows, columns = np.mgrid[: size[0] // stride, : size[1] // stride]
        grids.append(np.stack([columns.ravel(), rows.ravel(), np.full(rows.size, stride)], axis=1))
    return np.concatenate(grids).astype(np.float64)
