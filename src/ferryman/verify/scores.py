"""Confidences in answers, whatever the task."""

from collections.abc import Iterator, Sequence

import numpy as np

from ferryman.core.task import Answer

BINS = 20


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
