import numpy as np
import pytest

from ferryman.monitor.performance.intervals import block_draws, design_effect, newcombe, quantile, wilson
from ferryman.monitor.performance.metrics import measure
from ferryman.monitor.performance.outcome import Outcome, Outcomes, columns_of
from ferryman.monitor.performance.promise import Promise
from ferryman.monitor.performance.rolling import roll
from ferryman.monitor.performance.slices import slice_up
from tests.monitor.performance.making import BEGUN_S, MONTH_S, outcomes, promise

Z95 = quantile(0.975)


def regression(errors: np.ndarray, seed: int = 0) -> Outcomes:
    truths = np.random.default_rng(seed).normal(50, 10, len(errors))
    return columns_of([
        Outcome(f"r{place}", 0, "price", "1", BEGUN_S + 60 * place, BEGUN_S, None, value=truth + error, truth=truth)
        for place, (truth, error) in enumerate(zip(truths.tolist(), errors.tolist(), strict=True))
    ])  # fmt: skip


def test_intervals_are_those_of_the_papers() -> None:
    assert wilson(81 / 263, 263, Z95) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998a, table I
    assert wilson(0, 20, Z95) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert newcombe((56 / 70, 70), (48 / 80, 80), Z95) == pytest.approx((0.0524, 0.3339), abs=1e-4)  # 1998b, table II
    assert newcombe((10 / 10, 10), (0 / 10, 10), Z95) == pytest.approx((0.6075, 1.0), abs=1e-4)


def test_the_design_effect_is_that_of_a_known_process() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=30_000)
    assert design_effect(noise) == pytest.approx(1.0, abs=0.15)
    alike = np.zeros(30_000)
    for place in range(1, len(alike)):
        alike[place] = 0.7 * alike[place - 1] + noise[place]
    assert design_effect(alike) == pytest.approx((1 + 0.7) / (1 - 0.7), rel=0.15)
    shifted = np.r_[noise[:900], noise[900:1800] + 2.0]
    assert design_effect(shifted) < 1.4  # a level that changes is no likeness of neighbours
    assert design_effect(np.ones(500)) == 1.0


def test_blocks_are_runs_of_neighbours() -> None:
    draws = block_draws(100, 10, 5, seed=0)
    assert draws.shape == (5, 100)
    assert ((np.diff(draws[:, :10]) % 100) == 1).all()


def test_intervals_hold_the_truth_as_often_as_they_say_though_neighbours_are_alike() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        moods = np.repeat(rng.random(250), 4)  # four in a row have the same luck
        figure = roll(columns_of(outcomes(moods < 0.8)), promise())
        assert figure is not None
        held += figure.figures[-1].low <= 0.8 <= figure.figures[-1].high
    assert 0.9 <= held / 200 <= 0.995


def test_a_drop_is_told_soon_and_none_is_told_where_there_is_none() -> None:
    rng = np.random.default_rng(3)
    own = promise(value=0.9, samples=2000)
    clean = outcomes(rng.random(20_000) < 0.9, every_s=MONTH_S / 5000)
    false = 0
    for end in range(100, len(clean), 100):
        found = roll(columns_of(clean[max(0, end - 3000) : end]), own)
        assert found is not None
        assert found.drop is not None
        false += found.drop.least > own.max_drop
    assert false == 0  # in four of the intervals in which one may come
    spoilt = outcomes(np.r_[rng.random(3000) < 0.9, rng.random(1000) < 0.75], every_s=MONTH_S / 5000)
    ends = range(3020, 4000, 20)
    told = [end for end in ends if _least(spoilt[end - 3000 : end], own) > own.max_drop]
    assert told[0] - 3000 <= 300
    assert told == [end for end in ends if end >= told[0]]


def test_few_labels_say_nothing_and_a_small_proof_says_little() -> None:
    assert roll(columns_of(outcomes([True] * 29)), promise()) is None
    right = np.arange(300) % 10 < 7
    sure, doubtful = (_least(outcomes(right), promise(samples=samples)) for samples in (2000, 40))
    assert sure > 0.05 > 0 > doubtful


def test_a_model_without_labels_in_its_proof_has_figures_and_no_drop() -> None:
    found = roll(columns_of(outcomes([True, False] * 50)), None)
    assert found is not None
    assert (found.metric, found.figures[-1].value, found.drop) == ("right", 0.5, None)


def test_f1_is_that_of_its_definition() -> None:
    rows = outcomes([True] * 60 + [False] * 40)
    found = measure(columns_of(rows), "f1", effect=1.0, positive="car")
    assert found is not None
    assert found.value == pytest.approx(2 * 60 / (2 * 60 + 40))
    assert found.low < found.value < found.high


def test_errors_of_values_are_held_against_the_proof_as_its_drop_is() -> None:
    rng = np.random.default_rng(4)
    own = Promise("rmse", 2.0, 1000, higher_is_better=False, max_drop=0.05, interval_s=MONTH_S)
    as_ever, worse = (roll(regression(rng.normal(0, scale, 1000)), own) for scale in (2.0, 3.0))
    assert as_ever is not None
    assert worse is not None
    assert as_ever.drop is not None
    assert worse.drop is not None
    assert as_ever.drop.least < 0.05 < worse.drop.least
    assert worse.drop.value == pytest.approx(0.5, abs=0.15)  # half as large again
    figures = {
        metric: measure(regression(np.array([3.0, -4.0] * 50)), metric, effect=1.0) for metric in ("rmse", "mae", "r2")
    }
    values = {metric: figure.value for metric, figure in figures.items() if figure is not None}
    assert values["mae"] == pytest.approx(3.5)
    assert values["rmse"] == pytest.approx(12.5**0.5)
    assert 0.8 < values["r2"] < 0.95


def test_the_slice_that_is_worse_is_named_and_no_other() -> None:
    rng = np.random.default_rng(5)
    zones = rng.choice(["north", "south", "east"], 2000)
    light = rng.normal(100, 20, 2000)
    right = rng.random(2000) < np.where((zones == "south"), 0.6, 0.9)
    rows = [
        Outcome(f"r{place}", 0, "m", "1", float(place), 0.0, bool(right[place]), label="car", truth="car",
                signals={"cell.zone": str(zones[place]), "picture.brightness": float(light[place])})
        for place in range(2000)
    ]  # fmt: skip
    slices = slice_up(columns_of(rows))
    assert [(each.signal, each.part) for each in slices if each.is_worse] == [("cell.zone", "south")]
    assert slices[0].value == pytest.approx(0.6, abs=0.05)
    assert len([each for each in slices if each.signal == "picture.brightness"]) == 4
    flat = slice_up(columns_of(rows[:100]))
    assert not any(each.is_worse for each in flat)


def test_slices_of_what_is_equally_good_are_seldom_called_worse() -> None:
    rng = np.random.default_rng(6)
    called = 0
    for _ in range(60):
        drawn = rng.integers(0, 5, (500, 6))
        right = rng.random(500) < 0.8
        rows = [
            Outcome(f"r{place}", 0, "m", "1", float(place), 0.0, bool(right[place]), label="x", truth="x",
                    signals={f"cell.{column}": f"v{drawn[place, column]}" for column in range(6)})
            for place in range(500)
        ]  # fmt: skip
        called += any(each.is_worse for each in slice_up(columns_of(rows)))
    assert called <= 6


def _least(rows: list[Outcome], own: Promise) -> float:
    found = roll(columns_of(rows), own)
    assert found is not None
    assert found.drop is not None
    return found.drop.least
