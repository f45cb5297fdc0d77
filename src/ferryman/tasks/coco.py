"""COCO's mean average precision, and its bootstrap."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferryman.core.errors import ConfigError, DataError
from ferryman.core.task import Answer, Measurement, Truth
from ferryman.tasks.labels import label_of

_OVERLAPS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_MOST_BOXES = 100


@dataclass(frozen=True, slots=True)
class _ClassMatches:
    """Hold one class's detections over all pictures, best score first.

    picture int64 [D]; score float64 [D]; hit, ignored bool [T, D] at each IoU threshold; truths int64 [pictures].
    """

    picture: NDArray[np.int64]
    score: NDArray[np.float64]
    hit: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    truths: NDArray[np.int64]


def measure_boxes(
    answers: Sequence[Answer], truths: Sequence[Truth], metric: str, labels: tuple[str, ...] | None
) -> Measurement:
    """Compute map, map50, map75, ap:LABEL or ap50:LABEL as COCO defines them (all areas, 100 boxes a picture).

    Raises DataError where no picture has a box to find: nothing can get worse at that.
    """
    matches = _match(answers, truths)
    if not matches:
        raise DataError(
            f"none of the {len(truths)} labelled pictures has a box to find (crowds aside), so there is no {metric}",
            hint="check data.evaluation labels: are they those of these pictures?",
        )
    names = {number: label_of(labels, number) for number in matches}
    overlaps, numbers = _select(metric, names)
    everything = np.ones((1, len(answers)), np.int64)
    precisions = {number: _precisions(found, everything)[0] for number, found in matches.items()}
    figures = {
        "map": _mean([float(row.mean()) for row in precisions.values()]),
        "map50": _mean([float(row[0]) for row in precisions.values()]),
        "map75": _mean([float(row[5]) for row in precisions.values()]),
    }
    figures |= {f"ap:{names[number]}": float(row.mean()) for number, row in precisions.items()}
    figures |= {f"ap50:{names[number]}": float(row[0]) for number, row in precisions.items()}

    def resampled(indices: NDArray[np.int64]) -> NDArray[np.float64]:
        counts = np.stack([np.bincount(row, minlength=len(answers)) for row in indices])
        chosen = [_precisions(matches[number], counts)[:, overlaps].mean(axis=1) for number in numbers]
        return _mean_of_classes(np.stack(chosen) if chosen else np.zeros((0, len(indices))))

    value = float(resampled(np.arange(len(answers), dtype=np.int64)[None])[0])
    counted = [(found.score[~found.ignored[0]], found.hit[0][~found.ignored[0]]) for found in matches.values()]
    outcomes = (np.concatenate([scores for scores, _ in counted]), np.concatenate([hits for _, hits in counted]))
    return Measurement(metric, value, higher_is_better=True, resampled=resampled, figures=figures, outcomes=outcomes)


def _select(metric: str, names: dict[int, str]) -> tuple[slice, list[int]]:
    whole = {"map": slice(None), "map50": slice(0, 1), "map75": slice(5, 6)}
    if metric in whole:
        return whole[metric], list(names)
    kind, _, label = metric.partition(":")
    chosen = [number for number, name in names.items() if name == label]
    if kind not in ("ap", "ap50") or not chosen:
        known = f"map, map50, map75, or ap: and ap50: with one of {', '.join(names.values())}"
        raise ConfigError(f"detection has no metric '{metric}' on this data", hint=f"it has {known}")
    return (slice(None) if kind == "ap" else slice(0, 1)), chosen


def _match(answers: Sequence[Answer], truths: Sequence[Truth]) -> dict[int, _ClassMatches]:
    """Let pycocotools match boxes with truths, and gather its matches by class; only classes that have truths."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    pictures = [{"id": place + 1} for place in range(len(answers))]
    marked = [box for place, truth in enumerate(truths) for box in _annotations(truth, place + 1)]
    found = [box for place, answer in enumerate(answers) for box in _annotations(answer, place + 1)]
    numbers = sorted({box["category_id"] for box in marked if not box["iscrowd"]})
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        sides = []
        for boxes in (marked, found):
            side = COCO()
            side.dataset = {
                "images": pictures,
                "categories": [{"id": number} for number in numbers],
                "annotations": [{**box, "id": place + 1} for place, box in enumerate(boxes)],
            }
            side.createIndex()
            sides.append(side)
        evaluation = COCOeval(*sides, iouType="bbox")
        evaluation.params.catIds = numbers
        evaluation.params.iouThrs = _OVERLAPS
        evaluation.params.recThrs = _RECALLS
        evaluation.params.areaRng = [[0.0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.params.maxDets = [_MOST_BOXES]
        evaluation.evaluate()
    count = len(answers)
    return {
        number: _gather(evaluation.evalImgs[place * count : (place + 1) * count], count)
        for place, number in enumerate(numbers)
    }


def _annotations(marked: Any, picture: int) -> list[dict[str, Any]]:  # an Answer or a Truth; COCO's own JSON
    boxes, classes = marked["boxes"], marked["classes"]
    crowd = marked.get("crowd", [0] * len(classes))
    scores = marked.get("scores", [1.0] * len(classes))
    return [
        {
            "image_id": picture,
            "category_id": int(number),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": int(is_crowd),
            "score": score,
        }
        for (x1, y1, x2, y2), number, is_crowd, score in zip(boxes, classes, crowd, scores, strict=True)
    ]


def _gather(evaluated: Sequence[Any], picture_count: int) -> _ClassMatches:  # pycocotools' dicts, or None
    scores, pictures, hits, ignored = [np.empty(0)], [np.empty(0, np.int64)], [], []
    hits.append(np.empty((len(_OVERLAPS), 0), np.bool_))
    ignored.append(np.empty((len(_OVERLAPS), 0), np.bool_))
    truths = np.zeros(picture_count, np.int64)
    for entry in evaluated:
        if entry is None:
            continue
        place = entry["image_id"] - 1
        truths[place] = int((np.asarray(entry["gtIgnore"]) == 0).sum())
        scores.append(np.asarray(entry["dtScores"], np.float64))
        pictures.append(np.full(len(entry["dtScores"]), place, np.int64))
        hits.append(np.asarray(entry["dtMatches"]) != 0)
        ignored.append(np.asarray(entry["dtIgnore"], np.bool_))
    order = np.argsort(-np.concatenate(scores), kind="mergesort")
    skipped = np.concatenate(ignored, axis=1)[:, order]
    return _ClassMatches(
        picture=np.concatenate(pictures)[order],
        score=np.concatenate(scores)[order],
        hit=np.concatenate(hits, axis=1)[:, order] & ~skipped,
        ignored=skipped,
        truths=truths,
    )


def _precisions(found: _ClassMatches, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the average precision at each IoU threshold, [B, T], with picture i taken counts[b, i] times.

    NaN where no truth is in a resample. Precision falls between hits, so COCO's interpolated precision at a recall is
    the greatest precision of any later hit: only hits need looking at, each counting for the recalls that it adds.
    """
    weights = counts[:, found.picture]
    totals = (counts @ found.truths).astype(np.float64)
    answered = np.cumsum(weights, axis=1)
    result = np.zeros((len(counts), len(_OVERLAPS)))
    for row in range(len(_OVERLAPS)):
        hits = np.flatnonzero(found.hit[row])
        if not hits.size:
            continue
        right = np.cumsum(weights[:, hits], axis=1)
        if found.ignored[row].any():
            answered_here = np.cumsum(weights * ~found.ignored[row], axis=1)[:, hits]
        else:
            answered_here = answered[:, hits]
        precision = right / np.maximum(answered_here, 1)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        recall = right / np.maximum(totals, 1.0)[:, None]
        reached = np.searchsorted(_RECALLS, recall, side="right")
        steps = np.diff(reached, axis=1, prepend=0)
        result[:, row] = (best * steps).sum(axis=1) / len(_RECALLS)
    result[totals == 0] = np.nan
    return result


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _mean_of_classes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = ~np.isnan(values)
    counts = known.sum(axis=0)
    return np.asarray(np.where(known, values, 0.0).sum(axis=0) / np.maximum(counts, 1), np.float64)
