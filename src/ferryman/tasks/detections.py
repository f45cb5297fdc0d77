"""Compare two detectors' boxes on the same pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ferryman.core.task import Agreement, Answer
from ferryman.tasks.boxes import Boxes, iou, match
from ferryman.tasks.shifts import mean_shifts

_PARTNER_IOU = 0.5


@dataclass(slots=True)
class _Tally:
    """Gather, over all pictures: signed score changes, pixel distances and IoU losses of pairs, boxes left alone."""

    changes: list[float] = field(default_factory=list)
    shifts_px: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    alone: int = 0
    shown: int = 0


def to_boxes(answer: Answer) -> Boxes:
    """Read an answer's boxes."""
    return Boxes(
        np.asarray(answer["boxes"], np.float64).reshape(-1, 4),
        np.asarray(answer["scores"], np.float64),
        np.asarray(answer["classes"], np.int64),
    )


def compare_detections(reference: Sequence[Answer], answers: Sequence[Answer], *, show_score: float) -> Agreement:
    """Measure how far boxes are apart, counting each that has `show_score` on either side.

    Partners have one class and IoU >= 0.5; a partner's score may be any. unmatched: share of shown boxes (of both
    sides) without one. score_shift, score_bias, max_score_diff: of pairs, and of lone boxes with their whole score;
    the first two are left out where neither side shows a box. max_box_diff: pixels between corners of pairs.
    mean_iou_loss: mean 1 - IoU of pairs.
    """
    tally = _Tally()
    for before, after in zip(reference, answers, strict=True):
        _compare_one(to_boxes(before), to_boxes(after), show_score, tally)
    return Agreement(
        {
            "unmatched": tally.alone / tally.shown if tally.shown else 0.0,
            "max_score_diff": float(np.max(np.abs(tally.changes), initial=0.0)),
            "max_box_diff": max(tally.shifts_px, default=0.0),
            "mean_iou_loss": float(np.mean(tally.losses)) if tally.losses else 0.0,
            **mean_shifts(tally.changes),
        }
    )


def _compare_one(before: Boxes, after: Boxes, show_score: float, tally: _Tally) -> None:
    pairs = match(before, after, overlap=_PARTNER_IOU)
    before_shown, after_shown = before.scores >= show_score, after.scores >= show_score
    tally.shown += int(before_shown.sum() + after_shown.sum())
    pairs = pairs[before_shown[pairs[:, 0]] | after_shown[pairs[:, 1]]]
    first, second = before.take(pairs[:, 0]), after.take(pairs[:, 1])
    tally.changes.extend((second.scores - first.scores).tolist())
    tally.shifts_px.extend(np.abs(second.corners - first.corners).max(axis=1, initial=0.0).tolist())
    tally.losses.extend((1.0 - np.diagonal(iou(first.corners, second.corners))).tolist())
    before_shown[pairs[:, 0]] = False
    after_shown[pairs[:, 1]] = False
    tally.alone += int(before_shown.sum() + after_shown.sum())
    tally.changes.extend((-before.scores[before_shown]).tolist())
    tally.changes.extend(after.scores[after_shown].tolist())
