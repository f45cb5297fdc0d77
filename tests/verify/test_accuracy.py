"""The metric's drop and its interval."""

import numpy as np
from numpy.typing import NDArray

from ferryman.core.task import Measurement
from ferryman.verify.accuracy import compare_metric


def _measurement(correct: NDArray[np.float64], *, higher_is_better: bool = True) -> Measurement:
    return Measurement(
        metric="top1",
        value=float(correct.mean()),
        higher_is_better=higher_is_better,
        resampled=lambda draws: np.asarray(correct[draws].mean(axis=1), np.float64),
    )


def test_the_interval_of_a_paired_drop_is_far_narrower_than_that_of_either_value() -> None:
    rng = np.random.default_rng(0)
    source = (rng.random(500) < 0.7).astype(np.float64)
    candidate = source.copy()
    candidate[:5] = 0.0
    accuracy = compare_metric(_measurement(source), _measurement(candidate), 500, seed=1)
    assert accuracy.drop == source.mean() - candidate.mean()
    assert accuracy.drop_low <= accuracy.drop <= accuracy.drop_high
    assert accuracy.drop_high - accuracy.drop_low < 0.02


def test_a_larger_error_drops_by_a_share_of_the_sources_own() -> None:
    for unit in (1e-4, 1.0, 5e4):
        source, worse = np.full(10, unit), np.full(10, 1.5 * unit)
        accuracy = compare_metric(
            _measurement(source, higher_is_better=False), _measurement(worse, higher_is_better=False), 10, seed=0
        )
        assert abs(accuracy.drop - 0.5) < 1e-9


def test_where_the_source_makes_no_error_the_drop_is_absolute() -> None:
    source, worse = np.zeros(10), np.full(10, 0.2)
    accuracy = compare_metric(
        _measurement(source, higher_is_better=False), _measurement(worse, higher_is_better=False), 10, seed=0
    )
    assert abs(accuracy.drop - 0.2) < 1e-9
