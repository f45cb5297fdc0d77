"""A watch finds what changed, and keeps the interval between false alarms that was stated."""

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from ferryman.core.contract import DriftPolicy
from ferryman.core.record import Columns, Value
from ferryman.monitor.baseline import Baseline, make_baseline
from ferryman.monitor.drift.change import DriftChange
from ferryman.monitor.drift.components import readers_of
from ferryman.monitor.drift.scores import Scoring
from ferryman.monitor.drift.threshold import expected_alarms, weight_of
from ferryman.monitor.drift.watch import DriftWatch
from ferryman.monitor.drift.windows import Windows

Floats = NDArray[np.float64]
START_S = 1.8e9
STEP_S = 3600 / 500  # 500 rows an hour
HOURLY = DriftPolicy(false_alarms="1 per 1 hour")
DAILY = DriftPolicy(false_alarms="1 per 1 day")


def columns_of(rows: Floats) -> dict[str, list[Value]]:
    return {f"signal{at}": rows[:, at].tolist() for at in range(rows.shape[1])}


def feed(watch: DriftWatch, rows: Floats, *, start: int = 0, at_once: int = 25) -> list[DriftChange]:
    changes = []
    for first in range(0, len(rows), at_once):
        columns = columns_of(rows[first : first + at_once])
        changes += watch.add(columns, START_S + (start + first) * STEP_S)
    return changes


def began(changes: list[DriftChange]) -> int:
    return sum(change.kind == "began" for change in changes)


def watched(rows: int, signals: int, seed: int, policy: DriftPolicy = HOURLY) -> DriftWatch:
    return DriftWatch(make_baseline(columns_of(np.random.default_rng(seed).normal(size=(rows, signals)))), policy)


@pytest.mark.parametrize("rows", [20, 100, 500])
def test_false_alarms_are_no_more_frequent_than_stated_however_small_the_baseline(rows: int) -> None:
    alarms = 0
    for seed in range(2):
        watch = watched(rows, 3, seed)
        alarms += began(feed(watch, np.random.default_rng([seed, 1]).normal(size=(1500, 3))))
    assert alarms <= 6  # in 6 intervals


@pytest.mark.parametrize(("correlation", "most"), [(0.9, 6), (0.98, 6)])
def test_frames_that_resemble_each_other_raise_no_more_alarms(correlation: float, most: int) -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(3000, 3))
    rows = noise.copy()
    for at in range(1, len(rows)):
        rows[at] = correlation * rows[at - 1] + math.sqrt(1 - correlation**2) * noise[at]
    watch = watched(500, 3, 0)
    assert began(feed(watch, rows)) <= most
    alike = watch.state()["alike"]
    assert isinstance(alike, float) and alike > 0.4 * (1 + correlation) / (1 - correlation)


CHANGES: dict[str, tuple[Callable[[Floats], Floats], str, int]] = {
    "level": (lambda values: values + 3, "level", 20),
    "small level": (lambda values: values + 0.8, "level", 150),
    "wider": (lambda values: values * 3, "spread", 60),
    "constant": (lambda values: values * 0 + 0.1, "spread", 60),
    "some far outside": (lambda values: np.where(np.arange(len(values)) % 5 == 0, 50.0, values), "outside", 60),
    "missing": (lambda values: np.where(np.arange(len(values)) % 3 == 0, np.nan, values), "missing", 40),
    "all infinite": (lambda values: values * 0 + np.inf, "outside", 20),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changed_is_found_soon_and_named(name: str) -> None:
    change, kind, most = CHANGES[name]
    watch = watched(100, 4, 0)
    rng = np.random.default_rng(1)
    assert not feed(watch, rng.normal(size=(300, 4)))
    rows = rng.normal(size=(400, 4))
    rows[:, 2] = change(rows[:, 2])
    for row in range(len(rows)):
        found = feed(watch, rows[row : row + 1], start=300 + row)
        if found:
            break
    assert found and row <= most
    assert found[0].kind == "began" and found[0].signals[0].signal == "signal2"
    assert kind in {entry.kind for entry in found[0].signals} | {"outside"}
    assert abs(found[0].signals[0].since_s - (START_S + 300 * STEP_S)) < 150 * STEP_S


def test_drift_ends_when_rows_are_as_before_and_is_told_once() -> None:
    watch = watched(100, 4, 0, DAILY)
    rng = np.random.default_rng(1)
    feed(watch, rng.normal(size=(300, 4)))
    changes = feed(watch, rng.normal(size=(500, 4)) + np.array([0, 0, 0, 2.5]), start=300, at_once=1)
    assert [change.kind for change in changes] == ["began"] and watch.is_drifted
    changes = feed(watch, rng.normal(size=(500, 4)), start=800, at_once=1)
    assert [change.kind for change in changes] == ["ended"] and not watch.is_drifted
    assert changes[0].signals[0].signal == "signal3"


def test_the_state_tells_a_human_what_moved_and_is_json() -> None:
    rng = np.random.default_rng(0)
    watch = DriftWatch(make_baseline({"brightness": rng.normal(112, 10, 200).tolist()}), HOURLY)
    for row, value in enumerate([*rng.normal(112, 10, 100), *rng.normal(64, 10, 60)]):
        watch.add({"brightness": [float(value)]}, START_S + row * STEP_S)
    state = json.loads(json.dumps(watch.state(), allow_nan=False))
    assert state["drifted"] and state["moved"][0]["text"].startswith("brightness 11")
    assert state["moved"][0]["after"] == pytest.approx(64, abs=5)
    assert "below 100% of the baseline" in state["moved"][0]["text"]
    assert state["scores"]["brightness"] > state["threshold"]
    assert 0 < state["expected_false_alarms"] <= 1.01 and state["rows"] == 160


def test_a_class_mix_and_a_new_category_are_found() -> None:
    rng = np.random.default_rng(0)
    baseline = make_baseline({"label": rng.choice(["ok", "dent", "hole"], 200, p=[0.7, 0.2, 0.1]).tolist()})
    for later, category in ((["dent"] * 60, "dent"), (["ok", "ok", "rust"] * 30, "")):
        watch = DriftWatch(baseline, HOURLY)
        changes = []
        for row, label in enumerate([*rng.choice(["ok", "dent", "hole"], 200, p=[0.7, 0.2, 0.1]).tolist(), *later]):
            changes += watch.add({"label": [label]}, START_S + row * STEP_S)
        assert [change.kind for change in changes] == ["began"]
        (moved,) = changes[0].signals
        assert moved.category == category and (category or "'rust'" in moved.text)


def test_a_million_categories_take_bounded_memory() -> None:
    baseline = make_baseline({"id": [f"user-{at}" for at in range(1000)]})
    watch = DriftWatch(baseline, HOURLY)
    sizes = []
    for block in range(10):
        watch.add({"id": [f"caller-{block}-{at}" for at in range(100_000)]}, START_S + block * 6)
        sizes.append(len(json.dumps(watch.save())))
    assert max(sizes) < 200_000 and sizes[-1] < sizes[2] * 3
    assert sum(len(pending) for pending in watch._pending.values()) < 4096


def test_odd_values_clocks_and_shapes_never_raise() -> None:
    watch = watched(50, 2, 0)
    odd: list[Columns] = [
        {},
        {"signal0": []},
        {"signal0": [float("nan"), float("inf"), -float("inf"), None, "text", 1e300]},
        {"signal0": [1.0], "unknown": ["x" * 100_000] * 3},
        {"signal1": ["only", "texts"]},
    ]
    times = [START_S, START_S - 1e9, START_S + 1e9, 0.0, -5.0, math.nan, math.inf, START_S]
    for at_s in times:
        for columns in odd:
            watch.add(columns, at_s, weight=math.nan)
    json.dumps(watch.state(), allow_nan=False)
    assert watch.state()["unknown_signals"] == 1
    assert DriftWatch(Baseline({}, 0), HOURLY).add({"signal0": [1.0]}, START_S) == []


def test_a_jump_of_the_clock_raises_no_alarm_and_hides_none() -> None:
    rng = np.random.default_rng(1)
    for jump in (-1e6, 1e8):
        watch = watched(100, 3, 0, DAILY)
        feed(watch, rng.normal(size=(300, 3)))
        rows, offset = rng.normal(size=(300, 3)), int(jump / STEP_S)
        assert not feed(watch, rows, start=offset)
        assert began(feed(watch, rows + 3, start=offset + 300)) == 1


def test_a_restored_watch_goes_on_as_the_one_that_was_saved() -> None:
    rng = np.random.default_rng(1)
    watch = watched(100, 3, 0, DAILY)
    feed(watch, rng.normal(size=(400, 3)))
    feed(watch, rng.normal(size=(60, 3)) + np.array([3, 0, 0]), start=400)
    baseline = make_baseline(columns_of(np.random.default_rng(0).normal(size=(100, 3))))
    saved = json.loads(json.dumps(watch.save()))
    again = DriftWatch.restore(baseline, DAILY, saved)
    assert again.is_drifted and not again.notice
    assert again.state()["scores"] == watch.state()["scores"]
    assert again.limit == pytest.approx(watch.limit, abs=0.1)
    changes = feed(again, rng.normal(size=(400, 3)), start=460)
    assert [change.kind for change in changes] == ["ended"]


def test_a_damaged_or_foreign_state_is_refused_and_said() -> None:
    watch = watched(100, 3, 0)
    baseline = make_baseline(columns_of(np.random.default_rng(0).normal(size=(100, 3))))
    saved = watch.save()
    arrays = str(saved["arrays"])
    bad: list[object] = [
        None,
        [],
        {**saved, "version": 99},
        {**saved, "arrays": arrays[:-8]},
        {**saved, "arrays": "A" + arrays[1:]},
        {**saved, "figures": {}},
        watched(99, 3, 1).save(),
    ]
    for each in bad:
        again = DriftWatch.restore(baseline, HOURLY, each)
        assert again.notice.startswith("the watch starts anew: ") and not again.is_drifted


def test_the_rhythm_of_the_day_is_learnt_and_a_change_beside_it_is_still_found() -> None:
    policy = DriftPolicy(false_alarms="1 per 1 day")
    rng = np.random.default_rng(0)

    def day(number: int, shift: float = 0.0) -> list[DriftChange]:
        found = []
        for minute in range(0, 1440, 6):
            level = math.sin(2 * math.pi * minute / 1440) + shift
            values = (level + 0.5 * rng.normal(size=5)).tolist()
            found += watch.add({"signal": values}, 1.8e9 // 86400 * 86400 + number * 86400 + minute * 60)
        return found

    whole = np.sin(2 * np.pi * np.arange(500) / 500) + 0.5 * rng.normal(size=500)
    watch = DriftWatch(make_baseline({"signal": whole.tolist()}), policy)
    alarms = [began(day(number)) for number in range(12)]
    assert sum(alarms[4:]) <= 2, alarms
    assert watch.state()["season"] == "day"
    ignorant = DriftWatch(make_baseline({"signal": whole.tolist()}), policy.model_copy(update={"season": "none"}))
    assert ignorant.state()["season"] == "none"
    assert watch.is_drifted or any(began(day(number, shift=1.5)) for number in (12, 13))


def test_before_two_days_are_known_a_change_that_an_hour_could_make_is_told_as_such() -> None:
    rng = np.random.default_rng(0)
    light = 100 + 60 * np.sin(2 * np.pi * np.arange(400) / 400) + rng.normal(0, 15, 400)  # of a whole day
    baseline = make_baseline({"brightness": light.tolist(), "objects": rng.poisson(4, 400).astype(float).tolist()})
    midnight = 1.8e9 // 86400 * 86400

    def night(watch: DriftWatch, brightness: float, objects: float) -> DriftChange:
        for row in range(600):
            values = {"brightness": [brightness + rng.normal(0, 15)], "objects": [objects + float(rng.poisson(4))]}
            for change in watch.add(values, midnight + row * 20):
                return change
        raise AssertionError("nothing was found")

    dark = night(DriftWatch(baseline, DAILY), 45, 0)
    assert dark.signals[0].may_be_hour and dark.signals[0].text.endswith("(or it is the hour: 1 of 24 hours seen)")
    crowd = night(DriftWatch(baseline, DAILY), 100, 50)  # more than there ever was: no hour of the baseline's
    assert crowd.signals[0].signal == "objects" and not crowd.signals[0].may_be_hour
    steady = night(DriftWatch(baseline, DAILY.model_copy(update={"season": "none"})), 45, 0)
    assert not steady.signals[0].may_be_hour and "hour" not in steady.signals[0].text


def test_values_outside_the_range_are_believed_no_sooner_than_chance_has_them() -> None:
    streams, blocks, limit = 1024, 400, 3.5
    for rows in (20, 100):
        baseline = make_baseline({"signal": np.random.default_rng(0).normal(size=rows).tolist()})
        component = readers_of(baseline, 1)["signal"].components[2]
        rng = np.random.default_rng(rows)
        outside = rng.beta(2, rows - 1, streams)  # how likely it is beyond the ends, over all baselines of that size
        scoring, windows, ones = Scoring([component] * streams, 0.0), Windows(streams, 9), np.ones(streams)
        highest = np.zeros(streams)
        for block in range(blocks):
            ended = windows.add(ones, (rng.random(streams) < outside).astype(np.float64), float(block))
            for spans in windows.spans(ended):
                highest = np.maximum(highest, scoring.score(spans.counts, spans.sums, ones).max(axis=0))
        assert (highest > limit).mean() <= expected_alarms(weight_of([component]), blocks, limit)


def test_more_traffic_makes_larger_blocks_and_the_same_promise() -> None:
    watch = watched(200, 2, 0, DriftPolicy(false_alarms="1 per 30 days"))
    rng = np.random.default_rng(1)
    for second in range(300):
        watch.add(columns_of(rng.normal(size=(1000, 2))), START_S + second)
    state = watch.state()
    assert state["block_rows"] == 1024 and not state["drifted"]
    assert state["expected_false_alarms"] == pytest.approx(1.0, abs=0.2)
    assert 5 < watch.limit < 6.5
