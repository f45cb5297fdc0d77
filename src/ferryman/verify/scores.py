"""Confidences in answers, whatever the task."""

from collections.abc import Iterator, Sequence

import numpy as np

from ferryman.core.proof import Calibration, Reliability
from ferryman.core.task import Answer, Measurement

BINS = 20
LEAST_CONFIDENCE = 0.05
"""Less than that is not an answer but a detector's long tail of guesses, many times all others."""


def confidences(answer: Answer) -> Iterator[float]:
    """Yield an answer's confidences: each box's, the first class's, the likeliest label's; none for numbers."""
    if "boxes" in answer:
        yield from answer["scores"]
    elif answer.get("scores"):
        yield answer["scores"][0]
    elif answer.get("probabilities"):
        yield max(answer["probabilities"].values())


def score_histogram(
    source: Sequence[Answer], candidate: Sequence[Answer]
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Count confidences in equal bins of [0, 1] for both; None where the task has none."""
    counts = []
    for answers in (source, candidate):
        scores = np.array([score for answer in answers for score in confidences(answer)], np.float64)
        counts.append(np.histogram(np.clip(np.nan_to_num(scores), 0, 1), bins=BINS, range=(0, 1))[0])
    if not counts[0].sum() and not counts[1].sum():
        return None
    return tuple(float(count) for count in counts[0]), tuple(float(count) for count in counts[1])


def compare_calibration(source: Measurement, candidate: Measurement) -> Calibration | None:
    """Set the calibration of a candidate's confidences beside the source's; None where the source gives none.

    A candidate that gives none has an error that is not a number, and so keeps no promise.
    """
    reference = _reliability(source)
    if reference is None:
        return None
    return Calibration(source=reference, candidate=_reliability(candidate) or Reliability(error=float("nan")))


def _reliability(measured: Measurement) -> Reliability | None:
    """Give the expected calibration error over equal bins (Guo et al. 2017); None without confidences."""
    if measured.outcomes is None:
        return None
    scores, right = measured.outcomes
    counted = scores >= LEAST_CONFIDENCE
    scores, right = np.clip(scores[counted], 0, 1), right[counted]
    if not scores.size:
        return None
    places = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    confidence = np.bincount(places, scores, BINS) / np.maximum(counts, 1)
    truth = np.bincount(places, right, BINS) / np.maximum(counts, 1)
    error = float((counts * np.abs(confidence - truth)).sum() / counts.sum())
    bins = [(float(c), float(t), int(n)) for c, t, n in zip(confidence, truth, counts, strict=True) if n]
    return Reliability(error=error, bins=tuple(bins))
