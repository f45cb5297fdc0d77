"""Elec2 with labels a week late: `FERRYMAN_SHARED=FOLDER python -m benchmarks.performance`."""

import os
from pathlib import Path

import numpy as np
from benchmarks.drift.tables import read_elec
from numpy.typing import NDArray

from ferryman.core.proof import Reliability
from ferryman.monitor.performance.estimate import cells, estimate, refute
from ferryman.monitor.performance.outcome import Outcome, Outcomes, columns_of
from ferryman.monitor.performance.promise import Promise
from ferryman.monitor.performance.rolling import MOST, roll

_HALF_HOUR_S, _LATE = 1800.0, 336  # rows: a week
_MONTH_S = 30 * 86_400.0
_NOW = 1000  # rows that the truth and the estimate are of


def main() -> None:
    """Print the first alarms, and a row of the table each 3,000 half hours."""
    elec = read_elec(Path(os.environ["FERRYMAN_SHARED"]))
    label = (elec.probability > 0.5).astype(int)
    right, sure = label == elec.truth, np.maximum(elec.probability, 1 - elec.probability)
    begin = elec.fitted
    reliability, own = _reliability(sure[:begin], right[:begin]), float(right[:begin].mean())
    rows = [
        Outcome(f"r{row}", 0, "elec", "1", _HALF_HOUR_S * row, 0.0, bool(right[row]), label=str(label[row]),
                truth=str(elec.truth[row]), confidence=float(sure[row]))
        for row in range(begin, len(right))
    ]  # fmt: skip
    for max_drop in (0.01, 0.05):
        promise = Promise("accuracy", own, begin, True, max_drop, _MONTH_S, right=own, reliability=reliability)
        first = next(end for end in range(500, len(rows), 20) if _least(_labelled(rows, end), promise) > max_drop)
        print(f"max_drop {max_drop}: alarm at row {first}")
    print("| row | labelled, a week late | 95 % | least drop | truth now | estimate now | 95 % | refuted by labels |")
    print("|---|---|---|---|---|---|---|---|")
    for end in range(3000, len(rows), 3000):
        labelled = _labelled(rows, end)
        found = roll(labelled, promise)
        counted = cells(sure[begin + end - _NOW : begin + end])
        values, counts = np.array(list(counted)), np.array(list(counted.values()), np.float64)
        if found is None or found.drop is None or (
            guess := estimate(values, counts, reliability, effect=found.effect)
        ) is None:  # fmt: skip
            continue
        figure, now = found.figures[-1], right[begin + end - _NOW : begin + end].mean()
        is_refuted = "yes" if refute(labelled, reliability, effect=found.effect) else "no"
        print(
            f"| {end:,} | {figure.value:.3f} | {figure.low:.3f} to {figure.high:.3f} | {found.drop.least:+.3f} "
            f"| {now:.3f} | {guess.value:.3f} | {guess.low:.3f} to {guess.high:.3f} | {is_refuted} |"
        )


def _labelled(rows: list[Outcome], end: int) -> Outcomes:
    return columns_of(rows[max(0, end - _LATE - MOST) : end - _LATE])


def _least(outcomes: Outcomes, promise: Promise) -> float:
    found = roll(outcomes, promise)
    return found.drop.least if found is not None and found.drop is not None else -1.0


def _reliability(sure: NDArray[np.float64], right: NDArray[np.bool_]) -> Reliability:
    places = np.minimum((sure * 10).astype(int), 9)
    masks = [places == place for place in np.unique(places)]
    bins = tuple((float(sure[mask].mean()), float(right[mask].mean()), int(mask.sum())) for mask in masks)
    return Reliability(error=sum(size * abs(mean - share) for mean, share, size in bins) / len(right), bins=bins)


if __name__ == "__main__":
    main()
