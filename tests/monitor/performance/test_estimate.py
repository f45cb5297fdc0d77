from pathlib import Path

import numpy as np
import pytest
from benchmarks.drift.tables import read_elec
from numpy.typing import NDArray

from ferryman.core.proof import Reliability
from ferryman.monitor.performance.estimate import Estimate, cells, estimate, refute
from ferryman.monitor.performance.outcome import Outcome, Outcomes, columns_of
from ferryman.monitor.performance.rolling import roll
from tests.monitor.performance.making import MONTH_S, outcomes, promise

Floats = NDArray[np.float64]


def reliability_of(confidences: Floats, right: NDArray[np.bool_], bins: int = 10) -> Reliability:
    """Measure it as a build does: bins of equal width."""
    places = np.minimum((confidences * bins).astype(int), bins - 1)
    found = tuple(
        (float(confidences[places == place].mean()), float(right[places == place].mean()), int((places == place).sum()))
        for place in np.unique(places)
    )
    error = sum(size * abs(mean - share) for mean, share, size in found) / len(right)
    return Reliability(error=error, bins=found)


def estimated(confidences: Floats, reliability: Reliability, *, effect: float = 1.0) -> Estimate:
    counted = cells(confidences)
    values, counts = np.array(list(counted)), np.array(list(counted.values()), np.float64)
    found = estimate(values, counts, reliability, effect=effect)
    assert found is not None
    return found


def draw(rng: np.random.Generator, count: int, *, sureness: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Draw confidences of a model that is too sure of itself, and whether each answer is right."""
    confidences = 0.5 + 0.5 * rng.beta(sureness, 1.0, count)
    return confidences, rng.random(count) < 0.5 + 0.7 * (confidences - 0.5)


def test_where_inputs_shift_the_estimate_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held, shifts = 0, []
    for _ in range(200):
        reliability = reliability_of(*draw(rng, 1000, sureness=3.0))
        confidences, right = draw(rng, 2000, sureness=1.0)  # harder inputs: half as many are sure
        found = estimated(confidences, reliability)
        held += found.low <= right.mean() <= found.high
        shifts.append(found.value - confidences.mean())
    assert 0.88 <= held / 200 <= 0.99
    assert np.mean(shifts) < -0.05  # raw confidences would promise too much


def test_a_small_proof_widens_the_interval() -> None:
    rng = np.random.default_rng(1)
    confidences, _ = draw(rng, 2000, sureness=2.0)
    large, small = (estimated(confidences, reliability_of(*draw(rng, size, sureness=2.0))) for size in (10_000, 50))
    assert (small.high - small.low) > 2 * (large.high - large.low)


def test_a_map_that_falls_is_pooled_and_what_no_sample_came_near_is_told() -> None:
    falling = Reliability(error=0.2, bins=((0.5, 0.9, 100), (0.7, 0.5, 300)))
    assert estimated(np.array([0.5, 0.7] * 50), falling).value == pytest.approx(0.6)
    assert estimated(np.array([0.99] * 50 + [0.7] * 50), falling).beyond == pytest.approx(0.5)


def test_without_bins_the_calibration_error_is_part_of_the_doubt() -> None:
    confidences = np.full(100_000, 0.8)
    found = estimated(confidences, Reliability(error=0.1))
    assert (found.value, found.high - found.low) == pytest.approx((0.8, 0.2), abs=0.01)
    assert estimate(np.array([]), np.array([]), Reliability(error=0.1)) is None


@pytest.fixture(scope="module")
def served(shared_data: Path) -> tuple[Outcomes, Reliability, float]:
    """Give Elec2 as it is served, with what a build measured on its first fifth."""
    elec = read_elec(shared_data)
    label = (elec.probability > 0.5).astype(int)
    right, confidences = label == elec.truth, np.maximum(elec.probability, 1 - elec.probability)
    begin = elec.fitted
    rows = [
        Outcome(f"r{row}", 0, "elec", "1", 9e8 + 1800.0 * row, 9e8 + 1800.0 * (row + 336), bool(right[row]),
                label=str(label[row]), truth=str(elec.truth[row]), confidence=float(confidences[row]))
        for row in range(begin, len(right))
    ]  # fmt: skip
    return columns_of(rows), reliability_of(confidences[:begin], right[:begin]), float(right[:begin].mean())


def part(outcomes: Outcomes, start: int, end: int) -> Outcomes:
    return columns_of(outcomes.rows[start:end])


def test_elec2_alarms_with_labels_a_week_late_and_not_before_anything_is_lost(
    served: tuple[Outcomes, Reliability, float],
) -> None:
    outcomes, _, own = served
    promised = promise(value=own, samples=9062, right=own, max_drop=0.05)
    told = [
        end
        for end in range(500, 7000, 100)
        if (found := roll(part(outcomes, max(0, end - 3336), end - 336), promised)) is not None
        and found.drop is not None
        and found.drop.least > promised.max_drop
    ]
    assert 5993 < told[0] <= 6500  # over four weeks 5 points are lost at 5,993, which late labels tell at 6,329


def test_elec2_changes_what_confidences_mean_so_labels_refute_the_estimate(
    served: tuple[Outcomes, Reliability, float],
) -> None:
    outcomes, reliability, _ = served
    early, late = part(outcomes, 0, 1000), part(outcomes, 11_000, 12_000)
    assert refute(early, reliability, effect=7.0, interval_s=MONTH_S) == ""
    assert estimated(np.array([row.confidence for row in late.rows]), reliability).value > 0.9
    assert late.right.mean() < 0.6
    told = refute(late, reliability, effect=7.0, interval_s=MONTH_S)
    assert told.startswith("labels refute it: of the latest 1000 labelled answers 58")


def test_labels_that_agree_refute_no_estimate_however_often_it_is_looked() -> None:
    rng = np.random.default_rng(2)
    reliability = Reliability(error=0.0, bins=((0.5, 0.5, 100_000), (0.8, 0.8, 100_000), (1.0, 1.0, 100_000)))
    refuted = 0
    for _ in range(20):
        rows = outcomes(rng.random(10_000) < 0.8, confidence=0.8)
        ends = range(1000, 10_001, 250)
        looks = (columns_of(rows[end - 1000 : end]) for end in ends)
        refuted += any(refute(look, reliability, effect=1.0, interval_s=MONTH_S) for look in looks)
    assert refuted <= 2  # of 20; at 95 % a look, more than half
