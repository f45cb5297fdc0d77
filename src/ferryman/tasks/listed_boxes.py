"""Decode detectors that list final boxes: suppressed in the graph, or trained to need none."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ferryman.core.errors import ConfigError
from ferryman.core.signature import Array, Signature, TensorSpec
from ferryman.tasks.boxes import Boxes, Floats
from ferryman.tasks.detect_spec import DetectSpec


@dataclass(frozen=True, slots=True)
class RowsDecoder:
    """Decode [B, N, 6] or [N, 6]: a box's four numbers, its score, its class. `factor` makes pixels of the boxes."""

    output: str
    box_format: str
    factor: Floats
    first_class: int
    score: float

    def decode(self, outputs: Mapping[str, Array]) -> Iterator[Boxes]:
        """Yield the boxes of one picture after the other."""
        rows = np.asarray(outputs[self.output], np.float64)
        for picture in rows.reshape(1, *rows.shape) if rows.ndim == 2 else rows:
            yield _pick(self, picture[:, :4], picture[:, 4], picture[:, 5])


@dataclass(frozen=True, slots=True)
class ListsDecoder:
    """Decode separate boxes [B, N, 4], scores [B, N] and classes [B, N], each also without B."""

    boxes: str
    scores: str
    classes: str
    count: str | None
    box_format: str
    factor: Floats
    first_class: int
    score: float

    def decode(self, outputs: Mapping[str, Array]) -> Iterator[Boxes]:
        """Yield the boxes of one picture after the other."""
        boxes, scores, classes = (
            np.asarray(outputs[name], np.float64) for name in (self.boxes, self.scores, self.classes)
        )
        if boxes.ndim == 2:
            boxes, scores, classes = boxes[None], scores[None], classes[None]
        counts = np.asarray(outputs[self.count], np.float64).ravel() if self.count else None
        for index in range(len(boxes)):
            valid = slice(None if counts is None else int(counts[index]))
            yield _pick(self, boxes[index][valid], scores[index].ravel()[valid], classes[index].ravel()[valid])


def bind_listed(spec: DetectSpec, signature: Signature, size: tuple[int, int]) -> RowsDecoder | ListsDecoder:
    """Fit a listing decoder to the model's outputs; raises ConfigError that says which it can't find."""
    height, width = size
    factor = np.asarray([height, width] * 2 if spec.box_format == "yxyx" else [width, height] * 2, np.float64)
    if not spec.normalized:
        factor = np.ones(4)
    rows = _rows_output(spec, signature)
    if rows is not None:
        return RowsDecoder(rows.name, spec.box_format, factor, spec.first_class, spec.nms.score)
    if spec.decoder == "end2end":
        raise _misfit(spec, signature, "one output of [B, N, 6]: four numbers of a box, score, class")
    boxes, scores, classes, count = _list_outputs(spec, signature)
    return ListsDecoder(boxes, scores, classes, count, spec.box_format, factor, spec.first_class, spec.nms.score)


def _rows_output(spec: DetectSpec, signature: Signature) -> TensorSpec | None:
    named = spec.outputs.boxes
    for port in signature.outputs:
        is_rows = len(port.shape) in (2, 3) and port.shape[-1] == 6
        if is_rows and named in (None, port.name):
            if len(port.shape) == 2 and signature.max_batch != 1:
                raise _misfit(spec, signature, "a batch of 1 for an output without a batch dimension")
            return port
    return None


def _list_outputs(spec: DetectSpec, signature: Signature) -> tuple[str, str, str, str | None]:
    ports = {port.name: port for port in signature.outputs}
    named = spec.outputs
    for key, name in named.model_dump(exclude_none=True).items():
        if name not in ports:
            raise ConfigError(
                f"[task] outputs.{key} = '{name}' is no output of the model", hint=f"it has {list(ports)}"
            )
    boxes = named.boxes or next((name for name, port in ports.items() if _is_boxes(port)), None)
    rest = [port for name, port in ports.items() if name not in (boxes, named.scores, named.classes, named.count)]
    classes = named.classes or _first(rest, ("class", "label"), integers=True)
    scores = named.scores or _first([port for port in rest if port.name != classes], ("score", "conf", "prob"))
    if not (boxes and scores and classes):
        raise _misfit(spec, signature, "an output [N, 6], or three with boxes [N, 4], scores [N] and classes [N]")
    count = named.count or _first([port for port in rest if port.name not in (classes, scores)], ("num", "count"))
    return boxes, scores, classes, count


def _is_boxes(port: TensorSpec) -> bool:
    return len(port.shape) in (2, 3) and port.shape[-1] == 4


def _first(ports: list[TensorSpec], words: tuple[str, ...], *, integers: bool = False) -> str | None:
    for port in ports:
        if any(word in port.name.lower() for word in words):
            return port.name
    fitting = [port.name for port in ports if integers and port.dtype.startswith("int") and len(port.shape) <= 2]
    return fitting[0] if len(fitting) == 1 else None


def _misfit(spec: DetectSpec, signature: Signature, wanted: str) -> ConfigError:
    shapes = ", ".join(f"'{port.name}' {port.dtype} {list(port.shape)}" for port in signature.outputs)
    return ConfigError(
        f"[task] decoder '{spec.decoder}' needs {wanted}; the model has {shapes}",
        hint="name them: [task] outputs = { boxes = '...', scores = '...', classes = '...' }",
    )


def _pick(decoder: RowsDecoder | ListsDecoder, boxes: Floats, scores: Floats, classes: Floats) -> Boxes:
    numbers = classes - decoder.first_class
    # A class below the first is the background, or the padding (-1) that some graphs write after the last box.
    chosen = np.flatnonzero((scores >= decoder.score) & (numbers >= 0))
    corners = _to_corners(boxes[chosen] * decoder.factor, decoder.box_format)
    return Boxes(corners, scores[chosen], numbers[chosen].astype(np.int64))


def _to_corners(boxes: Floats, box_format: str) -> Floats:
    if box_format == "yxyx":
        return boxes[:, [1, 0, 3, 2]]
    if box_format == "xywh":
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    if box_format == "cxcywh":
        half = boxes[:, 2:] / 2
        return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    return boxes
