"""Detectors tell what changed, keep their level where nothing did, and say what they lack."""

import sys
from collections.abc import Callable

import numpy as np
import pytest

from ferryman.core.errors import ConfigError
from ferryman.monitor.detectors.adwin import Adwin
from ferryman.monitor.detectors.chi_square import ChiSquare
from ferryman.monitor.detectors.cusum import Cusum
from ferryman.monitor.detectors.detector import Sequential, TwoSample
from ferryman.monitor.detectors.domain_classifier import DomainClassifier
from ferryman.monitor.detectors.e_detector import EDetector
from ferryman.monitor.detectors.jensen_shannon import JensenShannon
from ferryman.monitor.detectors.kolmogorov_smirnov import KolmogorovSmirnov
from ferryman.monitor.detectors.martingale import ConformalMartingale
from ferryman.monitor.detectors.mean_discrepancy import MeanDiscrepancy
from ferryman.monitor.detectors.page_hinkley import PageHinkley
from ferryman.monitor.detectors.population_stability import PopulationStability
from ferryman.monitor.detectors.wasserstein import Wasserstein

OF_NUMBERS: list[TwoSample] = [
    KolmogorovSmirnov(),
    PopulationStability(),
    Wasserstein(threshold=0.2),
    JensenShannon(threshold=0.15),
    MeanDiscrepancy(rounds=50),
    DomainClassifier(),
]


@pytest.mark.parametrize("detector", OF_NUMBERS, ids=lambda each: type(each).__name__)
def test_a_shift_of_a_number_is_told_and_the_same_distribution_is_not(detector: TwoSample) -> None:
    rng = np.random.default_rng(3)
    reference = rng.normal(size=300)
    assert detector.compare(reference, rng.normal(1.0, size=300)).is_drift
    same = detector.compare(reference, rng.normal(size=300))
    assert not same.is_drift, same


@pytest.mark.parametrize("detector", [MeanDiscrepancy(rounds=50), DomainClassifier()], ids=["mmd", "classifier"])
def test_a_change_of_how_numbers_go_together_is_told(detector: TwoSample) -> None:
    rng = np.random.default_rng(0)
    alone = rng.normal(size=(400, 2))
    together = alone @ np.linalg.cholesky(np.array([[1.0, 0.9], [0.9, 1.0]])).T
    assert detector.compare(rng.normal(size=(400, 2)), together).is_drift


@pytest.mark.parametrize(
    "detector", [KolmogorovSmirnov(0.1), MeanDiscrepancy(0.1, rounds=99), ChiSquare(0.1)], ids=["ks", "mmd", "chi"]
)
def test_a_test_is_wrong_as_often_as_its_level_says(detector: TwoSample) -> None:
    rng = np.random.default_rng(1)
    wrong = sum(
        detector.compare(rng.integers(0, 8, 60).astype(float), rng.integers(0, 8, 60).astype(float)).is_drift
        for _ in range(150)
    )
    assert wrong <= 26  # 15 are expected; more than 26 come with a probability of 0.2 %


def test_a_new_mix_of_categories_is_told_and_rare_ones_are_counted_together() -> None:
    rng = np.random.default_rng(0)
    reference = rng.choice(4, 400, p=[0.4, 0.3, 0.2, 0.1]).astype(float)
    assert ChiSquare().compare(reference, rng.choice(4, 400, p=[0.1, 0.2, 0.3, 0.4]).astype(float)).is_drift
    unique = ChiSquare().compare(np.arange(400.0), np.arange(1000.0, 1400.0))
    assert not unique.is_drift and unique.p_value == 1.0  # nothing is known of categories that come once


def test_figures_are_those_of_the_definitions() -> None:
    before, after = np.repeat([0.0, 1.0], [50, 50]), np.repeat([0.0, 1.0], [90, 10])
    found = PopulationStability(bins=2).compare(before, after).statistic
    p, q = np.array([50.5, 50.5]) / 101, np.array([90.5, 10.5]) / 101
    assert found == pytest.approx(float(((q - p) * np.log(q / p)).sum()))
    assert Wasserstein(threshold=0.2).compare(before, before + 3).statistic == pytest.approx(6.0)
    far = JensenShannon().compare(np.linspace(0, 1, 10_000), np.linspace(5, 6, 10_000)).statistic
    assert 0.85 < far <= 1.0


@pytest.mark.parametrize("detector", OF_NUMBERS, ids=lambda each: type(each).__name__)
def test_values_that_are_no_numbers_are_left_out_and_too_few_are_refused(detector: TwoSample) -> None:
    rng = np.random.default_rng(0)
    spoiled = np.concatenate([rng.normal(size=200), [np.nan, np.inf, -np.inf]])
    assert np.isfinite(detector.compare(spoiled, spoiled[::-1]).statistic)
    with pytest.raises(ConfigError, match="rows of finite values"):
        detector.compare(spoiled, np.array([np.nan, 1.0]))


SEQUENTIAL: list[Callable[[], Sequential]] = [
    lambda: Cusum(mean=0.3, std=0.1, limit=9),
    lambda: PageHinkley(limit=10),
    Adwin,
    lambda: ConformalMartingale(np.random.default_rng(9).normal(0.3, 0.1, 200).tolist()),
]


@pytest.mark.parametrize("make", SEQUENTIAL, ids=["cusum", "page-hinkley", "adwin", "martingale"])
def test_a_change_of_a_stream_is_found_soon_and_a_clean_one_is_left_alone(make: Callable[[], Sequential]) -> None:
    rng = np.random.default_rng(2)
    detector = make()
    assert not any(detector.add(value) for value in [*rng.normal(0.3, 0.1, 1000), float("nan")])
    found = [row for row, value in enumerate(rng.normal(0.6, 0.1, 500)) if detector.add(value)]
    assert found and found[0] < 150


def test_an_e_detector_has_no_more_false_alarms_than_its_theorem_allows() -> None:
    rng = np.random.default_rng(0)
    detector = EDetector(length=500)
    alarms = sum(detector.add(value) for value in rng.random(50_000))
    assert 5 <= alarms <= 100
    found = [row for row, value in enumerate(rng.beta(4, 1, 500)) if EDetector.add(detector, value)]
    assert found[0] < 40
    with pytest.raises(ValueError, match="a rank must be in"):
        detector.add(1.5)


def test_a_martingale_of_ten_values_is_right_about_a_stream_of_the_same() -> None:
    wrong = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        detector = ConformalMartingale(rng.normal(size=10).tolist(), alpha=0.05, seed=seed)
        wrong += any(detector.add(value) for value in rng.normal(size=300))
    assert wrong <= 11  # at most 5 are expected, by Ville's inequality, however few there were at first


@pytest.mark.parametrize(
    ("module", "run", "extra"),
    [
        ("scipy.stats", lambda: KolmogorovSmirnov().compare(np.arange(9.0), np.arange(9.0)), "drift"),
        ("river.drift", lambda: Adwin().add(1.0), "drift"),
        ("sklearn.ensemble", lambda: DomainClassifier().compare(np.arange(9.0), np.arange(9.0)), "sklearn"),
    ],
)
def test_a_package_that_is_missing_is_named_with_the_way_to_it(
    module: str, run: Callable[[], object], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match="not installed") as caught:
        run()
    assert f"ferryman[{extra}]" in str(caught.value.hint)
