"""Baselines: what they keep of signals, and that ranks of the same distribution are uniform."""

import json
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from ferryman.core.errors import BundleError
from ferryman.monitor.baseline import (
    MOST_CATEGORIES,
    MOST_QUANTILES,
    OTHER,
    Baseline,
    CategoryBaseline,
    NumberBaseline,
    make_baseline,
    numbers_of,
)

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]


def number(values: Sequence[float | None] | Floats) -> NumberBaseline:
    signal = make_baseline({"signal": list(values)}).signals["signal"]
    assert isinstance(signal, NumberBaseline)
    return signal


def category(values: Sequence[str | None]) -> CategoryBaseline:
    signal = make_baseline({"signal": values}).signals["signal"]
    assert isinstance(signal, CategoryBaseline)
    return signal


DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda rng, count: rng.normal(size=count),
    "heavy": lambda rng, count: rng.standard_cauchy(count),
    "few values": lambda rng, count: rng.integers(0, 3, count).astype(float),
    "mostly zero": lambda rng, count: np.where(rng.random(count) < 0.8, 0.0, rng.normal(size=count)),
    "constant": lambda _, count: np.full(count, 7.0),
}


@pytest.mark.parametrize("size", [20, 200, 5000])
@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_ranks_of_the_same_distribution_are_uniform(kind: str, size: int) -> None:
    """Over baselines, not over one: a small one is off by chance, as any sample of its size is."""
    rng = np.random.default_rng(3)
    draw = DISTRIBUTIONS[kind]
    ranks = np.concatenate([number(draw(rng, size)).rank(draw(rng, 20), rng) for _ in range(200)])
    assert (ranks.min() >= 0, ranks.max() <= 1) == (True, True)
    counts = np.histogram(ranks, bins=10, range=(0, 1))[0] / len(ranks)
    assert np.abs(counts - 0.1).max() < 0.025  # 4,000 ranks that share 200 baselines


def test_the_ranks_of_a_large_baseline_are_off_by_a_258th_at_most() -> None:
    values = np.random.default_rng(0).lognormal(size=20_000)
    signal = number(values)
    exact = np.searchsorted(np.sort(values), values) / len(values)
    assert len(signal.quantiles) == MOST_QUANTILES
    assert np.abs(signal.rank(values) - exact).max() <= 1 / (MOST_QUANTILES + 1) + 1 / len(values)


def test_without_chance_a_rank_is_the_middle_of_those_that_it_may_have() -> None:
    assert number([1, 2, 2, 4]).rank(np.array([0, 1, 2, 3, 9, math.nan])).tolist()[:5] == [0.1, 0.2, 0.5, 0.7, 0.9]


def test_missing_values_have_no_rank_and_infinities_are_at_the_ends() -> None:
    ranks = number([1.0, 2.0, 3.0]).rank(np.array([math.nan, math.inf, -math.inf]))
    assert math.isnan(ranks[0])
    assert ranks[1:].tolist() == [0.875, 0.125]


def test_a_number_keeps_count_missing_mean_and_deviation() -> None:
    signal = number([1.0, None, math.nan, 3.0])
    assert (signal.count, signal.missing, signal.mean, signal.std) == (4, 0.5, 2.0, 1.0)
    assert (signal.low, signal.high) == (1.0, 3.0)


def test_infinities_are_values_beyond_all_others() -> None:
    signal = number([math.inf, 1.0, 3.0, -math.inf])
    assert (signal.mean, signal.missing) == (2.0, 0.0)
    assert signal.rank(np.array([math.inf])).tolist() == [pytest.approx(0.8)]
    assert json.loads(json.dumps(signal.to_json(), allow_nan=False))["high"] > 1e38


def test_equal_values_stay_equal_through_a_file() -> None:
    values = [0.1, 1 / 3, 2e-45, 1e300]
    stored = json.loads(json.dumps(make_baseline({"signal": values}).to_json()))
    read = Baseline.from_json(stored)
    assert read is not None
    signal = read.signals["signal"]
    assert isinstance(signal, NumberBaseline)
    ranks = signal.rank(np.asarray(values))
    assert sorted(ranks.tolist()) == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert read.to_json() == stored


def test_bins_are_equally_likely_and_their_shares_are_told() -> None:
    rng = np.random.default_rng(0)
    signal = number(rng.normal(size=5000))
    counts = np.bincount(signal.bin(rng.normal(size=20_000)), minlength=10) / 20_000
    assert np.abs(counts - 0.1).max() < 0.02
    assert np.abs(signal.expected() - 0.1).max() < 0.01
    assert signal.bin(np.array([math.nan, -99, 99])).tolist() == [-1, 0, 9]


def test_bins_of_equal_values_expect_them_together() -> None:
    signal = number([0.0] * 90 + [1.0] * 10)
    assert sorted(signal.expected()[signal.expected() > 0].tolist()) == [0.1, 0.9]
    assert signal.bin(np.array([0.0, 0.0])).tolist() == [4, 4]


def test_categories_are_counted_the_most_frequent_first() -> None:
    signal = category(["b", "a", "a", None, "c"])
    assert dict(signal.shares) == {"a": 0.5, "b": 0.25, "c": 0.25}
    assert (signal.count, signal.missing, signal.distinct, signal.unseen) == (5, 0.2, 3, 0.5)
    assert (signal.is_whole, signal.place("a"), signal.place("new")) == (True, "a", OTHER)


def test_a_million_categories_take_little_room() -> None:
    values = [f"user {number}" for number in range(1_000_000)] + ["regular"] * 500_000
    signal = category(values)
    assert len(signal.shares) == MOST_CATEGORIES + 1
    assert signal.shares["regular"] == pytest.approx(1 / 3)
    assert (signal.is_whole, signal.distinct) == (False, 1_000_001)
    assert signal.unseen == pytest.approx(2 / 3)
    assert sum(signal.shares.values()) == pytest.approx(1)
    assert len(json.dumps(signal.to_json())) < 10_000


def test_a_signal_without_any_value_is_left_out() -> None:
    baseline = make_baseline({"nothing": [None, math.nan], "something": [1.0, None]})
    assert (list(baseline.signals), baseline.count) == (["something"], 2)
    assert make_baseline({}) == Baseline({}, 0)


def test_values_that_are_no_numbers_are_missing() -> None:
    assert np.isnan(numbers_of([None, "x", math.nan])).all()
    assert numbers_of([1, None, 2.5])[[0, 2]].tolist() == [1.0, 2.5]


def test_a_bundle_of_before_there_were_signals_has_no_baseline() -> None:
    assert Baseline.from_json({"inputs": {}, "answers": {"count": 4}}) is None
    assert Baseline.from_json({}) is None


@pytest.mark.parametrize(
    "spoilt",
    [
        {"version": 2}, {"signals": {"a": {"kind": "poem"}}}, {"signals": {"a": {"kind": "number"}}}, {"signals": []},
        {"signals": {"a": {"kind": "category", "shares": 3}}}, {"count": "many"}, {"signals": {"a": 1}},
        {"signals": {"a": {"kind": "number", "count": 2, "missing": 0, "mean": 1, "std": 1, "low": 0, "high": 1,
                           "quantiles": [2, 1]}}},
    ],
)  # fmt: skip
def test_a_damaged_baseline_is_refused(spoilt: dict[str, object]) -> None:
    with pytest.raises(BundleError, match="baseline"):
        Baseline.from_json({"version": 1, "count": 3, "signals": {}} | spoilt)
