"""How many answers are right, as far as their confidences tell, while no labels are there.

The idea is that of CBPE (Bialek, Kuberski, Perrakis and Bifet 2024, Estimating Model Performance Under Covariate
Shift Without Labels): where confidences are calibrated, their mean is the share of answers that are right.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferryman.core.proof import Reliability
from ferryman.monitor.performance.intervals import quantile
from ferryman.monitor.performance.metrics import LEAST
from ferryman.monitor.performance.outcome import Outcomes
from ferryman.monitor.performance.rolling import rounded, tail

Floats = NDArray[np.float64]

_Z95 = quantile(0.975)
_BEYOND = 0.05
_REFUTED_BY = 1000  # the latest labelled items


@dataclass(frozen=True, slots=True)
class Estimate:
    """Hold the share of answers that are expected to be right, and its 95 % interval.

    The interval is of what is drawn by chance: the live answers, and the samples that the calibration was learnt on.
    It holds while an answer of the same confidence is right as often as it was then. `beyond` is the share of
    confidences that no sample came near: what is said of them is a guess.
    """

    value: float
    low: float
    high: float
    count: int
    beyond: float

    def to_json(self) -> dict[str, Any]:  # JSON
        """Give JSON values."""
        return {key: rounded(value) for key, value in asdict(self).items()}


def estimate(
    confidences: Floats, counts: Floats, reliability: Reliability, *, effect: float = 1.0, z: float = _Z95
) -> Estimate | None:
    """Estimate from confidences [N], each of which came `counts` [N] times; None without any.

    The proof's bins become a map that rises with the confidence (pool adjacent violators; Ayer et al. 1955), linear
    between their means. A proof without bins has its calibration error added to both ends of the interval. `effect`
    neighbours are worth one answer, as far as labels told. `z` is the standard normal's quantile of the interval.
    """
    known = np.isfinite(confidences) & (counts > 0)
    values, weights = np.clip(confidences[known], 0.0, 1.0), counts[known] / max(float(counts[known].sum()), 1.0)
    count = int(counts[known].sum())
    if not count:
        return None
    if not reliability.bins:
        mean = float(weights @ values)
        half = reliability.error + z * math.sqrt(effect * float(weights @ (values * (1 - values))) / count)
        return Estimate(mean, max(0.0, mean - half), min(1.0, mean + half), count, 0.0)
    centres, shares, sizes = _rising(reliability)
    part = _parts(values, centres)  # [N, bins]: how much of each bin is in the figure of a confidence
    told = part @ shares
    share = float(weights @ told)
    doubtful = (shares * sizes + 1) / (sizes + 2)  # 0 of 3 is not known to be never
    learnt = float(((weights @ part) ** 2 * doubtful * (1 - doubtful) / sizes).sum())
    drawn = effect * float(weights @ (told * (1 - told))) / count
    half = z * math.sqrt(learnt + drawn)
    seen = [centre for centre, _, _ in reliability.bins]
    beyond = float(weights @ ((values < min(seen) - _BEYOND) | (values > max(seen) + _BEYOND)))
    return Estimate(share, max(0.0, share - half), min(1.0, share + half), count, beyond)


def refute(outcomes: Outcomes, reliability: Reliability, *, effect: float, interval_s: float) -> str:
    """Say by which labels confidences no longer tell what is right, beyond doubt; "" where labels agree, or are few.

    It is looked at all the time: the doubt is such that labels which agree are refuted once in `interval_s` or rarer.
    """
    latest = outcomes.last(_REFUTED_BY)
    given = np.asarray([math.nan if row.confidence is None else row.confidence for row in latest.rows], np.float64)
    known = np.isfinite(given) & ~np.isnan(latest.right)
    if known.sum() < LEAST:
        return ""
    count = int(known.sum())
    z = quantile(1 - tail(outcomes, count, interval_s) / 2)
    expected = estimate(given[known], np.ones(count), reliability, effect=effect, z=z)
    share = float(latest.right[known].mean())
    if expected is None or expected.low <= share <= expected.high:
        return ""
    return (
        f"labels refute it: of the latest {count} labelled answers {share:.1%} were right, where their "
        f"confidences let expect {expected.value:.1%} ({expected.low:.1%} to {expected.high:.1%})"
    )


def cells(confidences: Floats, *, cells_of_one: int = 100) -> Mapping[float, int]:
    """Count confidences by the mean of the cell that they are in: what `records` are asked for, of an array."""
    known = confidences[np.isfinite(confidences)]
    places = np.minimum((known * cells_of_one).astype(np.int64), cells_of_one - 1)
    return {float(known[places == place].mean()): int((places == place).sum()) for place in np.unique(places)}


def _rising(reliability: Reliability) -> tuple[Floats, Floats, Floats]:
    """Give mean confidences, shares of right answers and numbers of answers of bins whose shares rise."""
    pools: list[list[float]] = []
    for centre, share, size in sorted(reliability.bins):
        pools.append([centre, share, float(size)])
        while len(pools) > 1 and pools[-2][1] >= pools[-1][1]:
            last, before = pools.pop(), pools.pop()
            total = last[2] + before[2]
            mixed = [(last[place] * last[2] + before[place] * before[2]) / total for place in (0, 1)]
            pools.append([*mixed, total])
    made = np.asarray(pools, np.float64)
    return made[:, 0], made[:, 1], made[:, 2]


def _parts(values: Floats, centres: Floats) -> Floats:
    """Give the weights [N, bins] of linear interpolation between centres; beyond the ends the last bin counts."""
    basis = np.eye(len(centres))
    return np.stack([np.interp(values, centres, row) for row in basis], axis=1)
