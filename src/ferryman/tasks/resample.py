"""Make measurements of metrics over rows, with their bootstrap."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ferryman.core.task import Measurement

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], float]
"""A metric as a function of each item's weight, float64 [N]."""


def measure_mean(
    metric: str, values: Floats, *, higher_is_better: bool, figures: Mapping[str, float] | None = None
) -> Measurement:
    """Measure the mean of one value an item; the resample is vectorized."""

    def resampled(indices: NDArray[np.int64]) -> Floats:
        return np.asarray(values[indices].mean(axis=1), np.float64)

    value = float(values.mean()) if values.size else float("nan")
    return Measurement(metric, value, higher_is_better, resampled, dict(figures or {metric: value}))


def measure_weighted(
    metric: str, statistic: Statistic, count: int, *, higher_is_better: bool, figures: Mapping[str, float] | None = None
) -> Measurement:
    """Measure any metric that takes weights: an item drawn k times weighs k."""

    def resampled(indices: NDArray[np.int64]) -> Floats:
        return np.asarray([statistic(np.bincount(row, minlength=count).astype(np.float64)) for row in indices])

    value = statistic(np.ones(count))
    return Measurement(metric, value, higher_is_better, resampled, dict(figures or {metric: value}))
