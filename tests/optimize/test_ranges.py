import numpy as np
import pytest

from ferryman.optimize._clip import BINS
from ferryman.optimize._ranges import Ranges


def _ranges(values: "np.typing.NDArray[np.float64]") -> Ranges:
    low, high = values.min(), values.max()
    counts = np.histogram(values, bins=BINS, range=(low, high))[0].astype(np.int64)
    return Ranges(("tensor",), np.array([low]), np.array([high]), counts[None])


def test_min_max_is_what_was_seen() -> None:
    ranges = Ranges(("tensor",), np.array([-1.0]), np.array([3.0]))
    assert ranges.limits("minmax", 99.0)["tensor"] == (-1.0, 3.0)


def test_a_percentile_cuts_half_of_the_rest_from_each_side() -> None:
    values = np.linspace(-1, 1, 100_001)
    low, high = _ranges(values).limits("percentile", 90.0)["tensor"]
    assert low == pytest.approx(-0.9, abs=0.002)
    assert high == pytest.approx(0.9, abs=0.002)


def test_the_whole_percentile_is_the_whole_range() -> None:
    values = np.random.default_rng(0).normal(size=5000)
    low, high = _ranges(values).limits("percentile", 100.0)["tensor"]
    assert low == pytest.approx(values.min())
    assert high == pytest.approx(values.max())


def test_entropy_cuts_a_lonely_outlier() -> None:
    values = np.append(np.random.default_rng(0).normal(size=50_000), 100.0)
    low, high = _ranges(values).limits("entropy", 99.99)["tensor"]
    assert 2.5 < high < 20
    assert low == pytest.approx(values.min(), abs=0.1)


def test_entropy_keeps_the_range_of_values_behind_a_relu() -> None:
    values = np.maximum(np.random.default_rng(0).normal(size=50_000), 0)
    low, high = _ranges(values).limits("entropy", 99.99)["tensor"]
    assert low == 0.0
    assert high > 2.0


def test_mse_cuts_an_outlier_that_would_cost_all_others_their_precision() -> None:
    values = np.append(np.random.default_rng(0).normal(size=2_000_000), 60.0)
    low, high = _ranges(values).limits("mse", 99.99)["tensor"]
    assert 3 < high < 30
    assert low < -3
    assert _error(values, low, high) < 0.5 * _error(values, values.min(), values.max())


def test_mse_keeps_zero_in_the_range_and_nothing_below_a_relu() -> None:
    values = np.maximum(np.random.default_rng(0).normal(size=50_000), 0)
    low, high = _ranges(values).limits("mse", 99.99)["tensor"]
    assert low == 0.0
    assert high > 2.0


def _error(values: "np.typing.NDArray[np.float64]", low: float, high: float) -> float:
    scale = (high - low) / 255
    zero = np.round(-low / scale)
    levels = np.clip(np.round(values / scale) + zero, 0, 255)
    return float((((levels - zero) * scale - values) ** 2).mean())


def test_a_constant_tensor_keeps_its_value() -> None:
    ranges = Ranges(("tensor",), np.array([2.0]), np.array([2.0]), np.zeros((1, BINS), dtype=np.int64))
    assert ranges.limits("entropy", 99.0)["tensor"] == (2.0, 2.0)
