"""Drift of a batch: one window, one verdict, whatever the chunks and processes; its records."""

from pathlib import Path

import numpy as np
import pytest

from ferryman import api
from ferryman.batch.window import LEAST_ROWS, Window, false_alarm_share
from ferryman.core.bundle import Bundle
from ferryman.core.contract import DriftPolicy
from ferryman.core.record import Value
from ferryman.monitor.baseline import make_baseline
from tests.batch.making import Row, write_parquet
from tests.bundle.making import bundle_table

POLICY = DriftPolicy(false_alarms="1 per 30 days")
Columns = dict[str, list[Value]]


def columns_of(rng: np.random.Generator, rows: int, *, shift: float = 0.0, alike: float = 0.0) -> Columns:
    numbers = rng.normal(size=(rows, 4))
    for at in range(1, rows) if alike else ():
        numbers[at] = alike * numbers[at - 1] + np.sqrt(1 - alike**2) * numbers[at]
    numbers[:, 0] += shift
    colours: list[Value] = [str(colour) for colour in rng.choice(["red", "green", "blue"], rows)]
    return {**{f"signal{at}": numbers[:, at].tolist() for at in range(4)}, "colour": colours}


def verdict(window: Window, columns: Columns, rows: int, chunk: int = 500) -> dict[str, object]:
    parts = []
    for number, start in enumerate(range(0, rows, chunk)):
        part = {name: values[start : start + chunk] for name, values in columns.items()}
        parts.append(window.summarise(part, min(chunk, rows - start), number))
    return dict(window.judge(parts))


@pytest.mark.parametrize("alike", [0.0, 0.95])
def test_false_alarms_are_at_most_as_frequent_as_stated(alike: float) -> None:
    alarms, batches = 0, 60
    for seed in range(batches):
        rng = np.random.default_rng(seed)
        window = Window(make_baseline(columns_of(rng, 400)), POLICY)
        alarms += verdict(window, columns_of(rng, 1500, alike=alike), 1500)["verdict"] == "drift"
    assert false_alarm_share(POLICY) == pytest.approx(1 / 30)
    assert alarms <= 5  # of 60, where 2 are allowed on average: more than 5 has a chance of 1.5 %


def test_a_shift_is_found_and_told_in_the_signals_own_unit() -> None:
    rng = np.random.default_rng(1)
    window = Window(make_baseline(columns_of(rng, 1000)), POLICY)
    told = verdict(window, columns_of(rng, 2000, shift=0.6), 2000)
    assert told["verdict"] == "drift"
    moved = told["moved"]
    assert isinstance(moved, list)
    assert (moved[0]["signal"], moved[0]["kind"]) == ("signal0", "level")
    assert moved[0]["after"] == pytest.approx(0.6, abs=0.15)


def test_a_new_category_and_missing_values_are_found() -> None:
    rng = np.random.default_rng(2)
    window = Window(make_baseline(columns_of(rng, 1000)), POLICY)
    columns = columns_of(rng, 1000)
    columns["colour"][::10] = ["mauve"] * 100
    columns["signal2"][::5] = [None] * 200
    moved = verdict(window, columns, 1000)["moved"]
    assert isinstance(moved, list)
    assert {(one["signal"], one["kind"]) for one in moved} == {("colour", "new"), ("signal2", "missing")}
    assert any("mauve" in one["text"] for one in moved)


def test_few_rows_have_no_verdict() -> None:
    rng = np.random.default_rng(3)
    window = Window(make_baseline(columns_of(rng, 100)), POLICY)
    few = LEAST_ROWS - 1
    assert str(verdict(window, columns_of(rng, few, shift=9), few)["verdict"]).startswith("too few rows")


def test_real_prices_of_later_years_have_drifted_and_those_of_the_baseline_not(
    tmp_path: Path, bundle: Bundle, elec: list[Row]
) -> None:
    later = [{**row, "vicprice": row["vicprice"] * 3 + 0.01} for row in elec[:1000]]
    calm = api.score(bundle.path, write_parquet(tmp_path / "a.parquet", elec[:1000]), tmp_path / "a", processes=1)
    moved = api.score(bundle.path, write_parquet(tmp_path / "b.parquet", later), tmp_path / "b", processes=1)
    assert (calm.has_drifted, moved.has_drifted) == (False, True)
    drift = moved.figures["drift"]
    assert isinstance(drift, dict)
    assert "cell.vicprice" in {one["signal"] for one in drift["moved"]}  # type: ignore[index, union-attr, call-overload]  # JSON


def test_a_bundle_without_a_baseline_says_so(tmp_path: Path) -> None:
    bundle = bundle_table(tmp_path / "table")
    (tmp_path / "in.csv").write_text("width,height,weight\n1,2,3\n")
    scored = api.score(bundle.path, tmp_path / "in.csv", tmp_path / "out", processes=1)
    drift = scored.figures["drift"]
    assert isinstance(drift, dict)
    assert drift["verdict"] == "the bundle has no baseline of signals"


def test_records_hold_every_row_once(tmp_path: Path, bundle: Bundle, elec: list[Row]) -> None:
    rows = [{**row, "nswprice": float("nan") if at == 40 else row["nswprice"]} for at, row in enumerate(elec[:600])]
    given = write_parquet(tmp_path / "in.parquet", rows)
    for _ in range(2):
        api.score(bundle.path, given, tmp_path / "out", chunk=200, processes=1, monitor=tmp_path / "kept")
    folder = tmp_path / "kept" / "records"
    counted = api.count_records(folder, ["model", "outcome"]).as_dicts()
    assert {row["outcome"] for row in counted} == {"ok", "refused"}
    select = "SELECT count(*) AS items, count(DISTINCT (id, item)) AS different FROM records WHERE outcome = 'ok'"
    assert api.records(folder, select).as_dicts() == [{"items": 599, "different": 599}]
