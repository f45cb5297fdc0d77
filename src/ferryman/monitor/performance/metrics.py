"""Metrics of answers whose truth is known, with intervals; only those that can be told of what records keep."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferryman.monitor.performance.intervals import block_draws, design_effect, quantile, wilson
from ferryman.monitor.performance.outcome import Outcomes
from ferryman.monitor.performance.promise import SHARES

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""A metric as a function of items' weights [B, N], giving [B]."""

LEAST = 30
"""Fewer labelled items give no figure."""
_RESAMPLES = 300
_Z95 = quantile(0.975)


@dataclass(frozen=True, slots=True)
class Figure:
    """Hold a metric over `count` labelled items and its 95 % interval.

    Neighbours resemble each other: the items are worth `independent` ones. `deviation` is the standard error.
    """

    metric: str
    value: float
    low: float
    high: float
    count: int
    independent: float
    deviation: float


def measure(outcomes: Outcomes, metric: str, *, effect: float, positive: str | None = None) -> Figure | None:
    """Measure one metric; None of fewer than 30 items that have what it needs. `effect` is `effect_of`.

    - accuracy, top1, right: the share of answers that were right (Wilson's interval).
    - f1 (of `positive`, else the mean over labels), rmse, mae, r2, count_mae (objects that were found beside those
      that were there): by bootstrap of blocks of neighbours.
    """
    if metric in (*SHARES, "right"):
        return _share(metric, outcomes.right[~np.isnan(outcomes.right)], effect)
    statistic, count = _statistic(outcomes, metric, positive)
    if statistic is None or count < LEAST:
        return None
    block = max(1, round(effect))
    draws = block_draws(count, block, _RESAMPLES, seed=count)
    weights = np.stack([np.bincount(row, minlength=count) for row in draws]).astype(np.float64)
    value = float(statistic(np.ones((1, count)))[0])
    again = statistic(weights)
    low, high = (float(each) for each in np.nanpercentile(again, [2.5, 97.5]))
    return Figure(metric, value, min(low, value), max(high, value), count, count / effect, float(np.nanstd(again)))


def measurable(metric: str) -> bool:
    """Tell whether a contract's metric can be told of records and labels."""
    return metric in (*SHARES, "f1", "rmse", "mae", "r2")


def effect_of(outcomes: Outcomes) -> float:
    """Give how many neighbours are worth one item."""
    values = outcomes.right
    if np.isnan(values).all():
        found = outcomes.value if np.isnan(outcomes.objects).all() else outcomes.objects
        values = np.abs(found - outcomes.truth)
    return design_effect(values)


def _share(metric: str, right: Floats, effect: float) -> Figure | None:
    if right.size < LEAST:
        return None
    share, independent = float(right.mean()), right.size / effect
    low, high = wilson(share, independent, _Z95)
    deviation = float(np.sqrt(share * (1 - share) / independent))
    return Figure(metric, share, low, high, right.size, independent, deviation)


def _statistic(outcomes: Outcomes, metric: str, positive: str | None) -> tuple[Statistic | None, int]:
    if metric == "f1":
        return _f1(outcomes, positive)
    found = outcomes.objects if metric == "count_mae" else outcomes.value
    known = ~np.isnan(found) & ~np.isnan(outcomes.truth)
    given, wanted = found[known], outcomes.truth[known]
    errors = given - wanted

    def mean(values: Floats, weights: Floats) -> Floats:
        return np.asarray((weights @ values) / weights.sum(axis=1), np.float64)

    def r2(weights: Floats) -> Floats:
        spread = mean(wanted**2, weights) - mean(wanted, weights) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(spread > 0, 1 - mean(errors**2, weights) / spread, np.nan), np.float64)

    statistics: dict[str, Statistic] = {
        "rmse": lambda weights: np.sqrt(mean(errors**2, weights)),
        "mae": lambda weights: mean(np.abs(errors), weights),
        "count_mae": lambda weights: mean(np.abs(errors), weights),
        "r2": r2,
    }
    return statistics.get(metric), given.size


def _f1(outcomes: Outcomes, positive: str | None) -> tuple[Statistic, int]:
    rows = [row for row in outcomes.rows if row.label is not None and isinstance(row.truth, str)]
    given, wanted = np.asarray([row.label for row in rows]), np.asarray([row.truth for row in rows])
    labels = sorted({*given.tolist(), *wanted.tolist()}) if positive is None else [positive]

    def f1(weights: Floats) -> Floats:
        scores = []
        for label in labels:
            both = weights @ ((given == label) & (wanted == label)).astype(np.float64)
            total = weights @ ((given == label).astype(np.float64) + (wanted == label))
            scores.append(np.divide(2 * both, total, out=np.full(len(total), np.nan), where=total > 0))
        return np.asarray(np.nanmean(np.stack(scores), axis=0), np.float64)

    return f1, len(rows)
