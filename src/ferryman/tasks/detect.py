"""Object detection: pictures in, boxes with classes out."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from ferryman.core.errors import InputError
from ferryman.core.signature import Array, Signature
from ferryman.core.task import Agreement, Answer, Batch, Item, Measurement, TaskSpec, Truth
from ferryman.tasks.boxes import Boxes, suppress
from ferryman.tasks.coco import measure_boxes
from ferryman.tasks.decoders import bind_decoder
from ferryman.tasks.detect_spec import DetectSpec
from ferryman.tasks.detections import compare_detections
from ferryman.tasks.image import Placement, bind_image
from ferryman.tasks.labels import label_of, require_resolved
from ferryman.tasks.picture import name_picture, read_picture


class DetectTask:
    """Find objects in pictures.

    An answer is {"boxes": [[x1, y1, x2, y2], ...] in the picture's pixels, "scores": [...], "classes": [numbers],
    "labels": [names]}, best score first. A truth is {"boxes": [...], "classes": [...]} and may have "crowd": [0 or 1].
    """

    kind: ClassVar[str] = "detect"
    needs: ClassVar[tuple[str, ...]] = ("PIL",)
    Spec: ClassVar[type[TaskSpec]] = DetectSpec
    tolerance: ClassVar[Mapping[str, float]] = {"unmatched": 0.02, "max_score_diff": 0.01, "max_box_diff": 1.0}

    def __init__(self, spec: DetectSpec, signature: Signature) -> None:
        self.spec = spec
        self._labels = require_resolved(spec.labels)
        self._port = bind_image(spec.input, signature)
        size = (self._port.height, self._port.width)
        self._decoder = bind_decoder(spec, signature, size, len(self._labels) if self._labels else None)
        self._suppresses = spec.decoder not in ("nms", "end2end")

    def preprocess(self, items: Sequence[Item]) -> Batch:
        """Decode pictures, fit them into the model's input; raises InputError."""
        pictures = [read_picture(item, name=name_picture(item, place)) for place, item in enumerate(items)]
        values, placements = self._port.write(pictures)
        return Batch(inputs={self._port.name: values}, contexts=placements)

    def postprocess(self, outputs: Mapping[str, Array], batch: Batch) -> list[Answer]:
        """Decode boxes, drop overlapping ones and map them back to each picture.

        A context of None stands for a tensor that no picture was put into here: boxes are in its own pixels.
        """
        decoded = list(self._decoder.decode(outputs))
        if len(decoded) != len(batch.contexts):
            raise InputError(f"the model answered {len(decoded)} pictures of {len(batch.contexts)}")
        whole = Placement(1.0, 1.0, 0.0, 0.0, self._port.width, self._port.height)
        return [self._finish(boxes, context or whole) for boxes, context in zip(decoded, batch.contexts, strict=True)]

    def agreement(self, reference: Sequence[Answer], answers: Sequence[Answer]) -> Agreement:
        """Compare boxes from `show_score` on: unmatched share, scores, pixels."""
        return compare_detections(reference, answers, show_score=self.spec.show_score)

    def measure(self, answers: Sequence[Answer], truths: Sequence[Truth], metric: str | None) -> Measurement:
        """Compute map (COCO's mAP50-95), map50, map75, ap:LABEL or ap50:LABEL."""
        return measure_boxes(answers, truths, metric or "map", self._labels)

    def _finish(self, boxes: Boxes, placement: Placement) -> Answer:
        boxes = boxes.take(np.flatnonzero(np.isfinite(boxes.corners).all(axis=1)))
        if self._suppresses:
            nms = self.spec.nms
            kept = suppress(boxes, overlap=nms.iou, most=nms.max, agnostic=nms.agnostic)
        else:
            kept = np.argsort(-boxes.scores, kind="stable")[: self.spec.nms.max]
        boxes = boxes.take(kept)
        corners = placement.to_picture(boxes.corners)
        has_area = np.flatnonzero((corners[:, 2:] > corners[:, :2]).all(axis=1))
        boxes = boxes.take(has_area)
        classes: list[int] = boxes.classes.tolist()
        return {
            "boxes": np.round(corners[has_area], 3).tolist(),
            "scores": np.round(boxes.scores, 6).tolist(),
            "classes": classes,
            "labels": [label_of(self._labels, number) for number in classes],
        }
