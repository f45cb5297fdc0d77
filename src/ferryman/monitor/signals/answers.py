"""Signals of answers, told by what an answer holds: boxes, ranked labels, probabilities, a value, a vector."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import shake_256
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ferryman.core.record import Value
from ferryman.core.task import Answer
from ferryman.monitor.signals.asked import MISSING, Asked, Found, as_category, turned

_DIRECTIONS = 8
_MOST_DIMENSIONS = 65_536
_MOST_KEYS = 50


class AnswerReader:
    """Read signals of each answer by the keys that it has.

    - labels and scores, best first, or probabilities: `answer.label`, `answer.confidence` (the best score),
      `answer.margin` (over the second) and `answer.entropy` (bits; of scores that add up to 1 at most, with what isn't
      listed as one class more).
    - boxes, of those from `show_score` on: `answer.objects`, `answer.empty` (1 where there is none), `answer.label` (of
      one box, chosen by a digest of the answer: over many pictures their mix of classes, each picture counting
      once), `answer.confidence` and `answer.least` (mean and least score), `answer.box_area` (mean log2 of the share of
      the picture), `answer.box_x` and `answer.box_y` (mean centres as shares); and `answer.best`, the best of all
      scores, shown or not.
    - value: `answer.value`. embedding: `answer.embedding.0` to `.7`, its direction along eight fixed random ones
      (each about normal), and `answer.norm`.
    - of any other answer each number and text under its own key: `answer.KEY`.

    Scores and places are rounded to 4 digits after the point: what is 1 on one machine is so on another.
    """

    def __init__(self, show_score: float) -> None:
        self._show_score = show_score

    def read(self, asked: Asked) -> Found:
        """Give the signals `answer.*` of each answer."""
        if asked.answers is None:
            return {}
        contexts = [*asked.contexts, *[None] * asked.rows]
        rows = [self._read_one(answer, contexts[row]) for row, answer in enumerate(asked.answers[: asked.rows])]
        numbers = {name for row in rows for name, value in row.items() if isinstance(value, float)}
        return turned(
            [{f"answer.{name}": value for name, value in row.items()} for row in rows],
            [f"answer.{name}" for name in numbers],
        )

    def _read_one(self, answer: Answer, context: object) -> dict[str, Value]:
        if "boxes" in answer:
            return _read_boxes(answer, context, self._show_score)
        if "labels" in answer and "scores" in answer:
            return _read_ranking(answer["labels"], answer["scores"])
        if "probabilities" in answer:
            return _read_probabilities(answer)
        if "embedding" in answer:
            return _read_vector(np.asarray(answer["embedding"], np.float64))
        return _read_plain(answer)


def _read_boxes(answer: Answer, context: object, show_score: float) -> dict[str, Value]:
    scores: list[float] = answer["scores"]
    shown = [place for place, score in enumerate(scores) if score >= show_score]
    found: dict[str, Value] = {
        "objects": float(len(shown)),
        "empty": float(not shown),
        "best": round(max(scores, default=0.0), 4),
        "label": None,
    }
    if not shown:
        return found | dict.fromkeys(("confidence", "least", "box_area", "box_x", "box_y"), MISSING)
    best = [scores[place] for place in shown]
    chosen = shown[crc32(repr(answer["boxes"][shown[0]]).encode()) % len(shown)]
    found |= {"label": as_category(str(answer["labels"][chosen])), "confidence": round(math.fsum(best) / len(best), 4)}
    return found | {"least": round(min(best), 4)} | _read_places([answer["boxes"][place] for place in shown], context)


def _read_places(boxes: Sequence[Sequence[float]], context: object) -> dict[str, Value]:
    width, height = getattr(context, "width", 0), getattr(context, "height", 0)
    if not width or not height:
        return dict.fromkeys(("box_area", "box_x", "box_y"), MISSING)
    corners = np.asarray(boxes, np.float64) / (width, height, width, height)
    areas = np.maximum((corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]), 1e-9)
    centres = (corners[:, :2] + corners[:, 2:]).mean(axis=0) / 2
    found = {"box_area": float(np.log2(areas).mean()), "box_x": float(centres[0]), "box_y": float(centres[1])}
    return {name: round(value, 4) for name, value in found.items()}


def _read_ranking(labels: Sequence[Any], scores: Sequence[float]) -> dict[str, Value]:
    if not labels:
        return {"label": None, "confidence": MISSING, "margin": MISSING, "entropy": MISSING}
    first = float(scores[0])
    return {
        "label": as_category(str(labels[0])),
        "confidence": round(first, 4),
        "margin": round(first - float(scores[1]), 4) if len(scores) > 1 else MISSING,
        "entropy": round(_entropy(scores), 4),
    }


def _read_probabilities(answer: Answer) -> dict[str, Value]:
    shares: Mapping[str, float] = answer["probabilities"]
    scores = sorted((share for share in shares.values() if share == share), reverse=True)
    label = answer.get("label")
    found = _read_ranking([label], scores) if scores else {}
    return found | {"label": None if label is None else as_category(str(label))}


def _entropy(scores: Sequence[float]) -> float:
    rest = 1 - math.fsum(scores)
    if not (rest >= -0.01 and min(scores) >= 0):
        return MISSING
    return -math.fsum(share * math.log2(share) for share in (*scores, rest) if share > 0) + 0.0


def _read_vector(vector: NDArray[np.float64]) -> dict[str, Value]:
    norm = float(np.linalg.norm(vector)) if 0 < vector.size <= _MOST_DIMENSIONS else MISSING
    along = _directions(vector.size) @ (vector / norm) if norm > 0 else np.full(_DIRECTIONS, MISSING)
    return {f"embedding.{place}": value for place, value in enumerate(along.tolist())} | {"norm": norm}


@lru_cache(8)
def _directions(dimensions: int) -> NDArray[np.float64]:
    """Give eight directions of +1 and -1 [8, dimensions], the same on every machine and in every version."""
    bits = np.frombuffer(shake_256(f"ferryman {dimensions}".encode()).digest(dimensions), np.uint8)
    return np.asarray(1.0 - 2.0 * np.unpackbits(bits).reshape(_DIRECTIONS, dimensions))


def _read_plain(answer: Answer) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for key, value in list(answer.items())[:_MOST_KEYS]:
        if isinstance(value, str):
            found[as_category(key)] = as_category(value)
        elif isinstance(value, bool | int | float):
            found[as_category(key)] = float(value)
    return found
