"""The keeper: what is added is there, whatever it holds, sealed or not, and survives a restart."""

import math
from pathlib import Path

import pytest

from ferryman.core.errors import UserError
from ferryman.monitor.store.keeper import RecordKeeper
from ferryman.monitor.store.layout import JOURNAL, sealed_files, segments
from ferryman.monitor.store.query import Scope, counts, latest, query, window
from ferryman.monitor.store.rows import MAX_TEXT
from ferryman.monitor.store.sealer import Sealer
from tests.monitor.store.conftest import NOON_S, ODD, KeepIn, record

HOSTILE = [
    "../../etc",
    "a/b",
    "",
    ".",
    "..",
    "x" * 5000,
    "m'; DROP TABLE records; --",
    'q"',
    "né\0\n",
    "model=1",
    "*?[a]",
]


def test_a_record_can_be_asked_for_as_soon_as_it_is_added(keep: KeepIn) -> None:
    kept = keep()
    kept.keeper.add([record(1, outcome="deadline", columns={}, trace="ab", transport="grpc")])
    [row] = latest(kept.folder).as_dicts()
    assert (row["id"], row["outcome"], row["trace"], row["transport"]) == ("id-1", "deadline", "ab", "grpc")
    assert (row["item"], row["at_s"]) == (None, NOON_S + 0.01)


def test_sealing_changes_no_answer(keep: KeepIn) -> None:
    kept = keep()
    kept.keeper.add([record(number) for number in range(300)])
    before = latest(kept.folder, 300).as_dicts(), counts(kept.folder).rows
    kept.seal()
    assert segments(kept.folder) == []
    assert len(sealed_files(kept.folder)) == 1
    assert (latest(kept.folder, 300).as_dicts(), counts(kept.folder).rows) == before


def test_sealed_and_unsealed_are_asked_together_and_nothing_counts_twice(keep: KeepIn) -> None:
    kept = keep()
    for start in (0, 100, 200):
        kept.keeper.add([record(number) for number in range(start, start + 100)])
        if start < 200:
            kept.seal()
    assert query(kept.folder, "SELECT count(*), count(DISTINCT id) FROM records").rows == [(300, 300)]


def test_each_item_has_a_row_and_each_request_counts_once(keep: KeepIn) -> None:
    kept = keep()
    kept.keeper.add([record(1, columns={"score": [0.1, 0.2, 0.3], "label": ["a", None, "b"]}), record(2, columns={})])
    kept.seal()
    assert window(kept.folder, ["score", "label"])["score"] == [0.1, 0.2, 0.3]
    assert window(kept.folder, ["label"])["label"] == ["a", None, "b"]
    assert [row[3] for row in counts(kept.folder).rows] == [2]


@pytest.mark.parametrize("is_sealed", [False, True])
def test_odd_values_neither_break_nor_change_what_is_kept_beside_them(keep: KeepIn, is_sealed: bool) -> None:
    kept = keep()
    for number, odd in enumerate(ODD):
        kept.keeper.add([record(number, columns={"odd": [odd, 1.5], "good": [2.5, 2.5]})])
    kept.keeper.add([record(len(ODD), at_s=math.nan, total_s=math.inf, id="\ud800")])
    if is_sealed:
        kept.seal()
    assert window(kept.folder, ["good"])["good"].count(2.5) == 2 * len(ODD)
    values = window(kept.folder, ["odd"])["odd"]
    assert values.count(1.5) == len(ODD)
    assert {math.inf, -math.inf, 1e308} <= {value for value in values if isinstance(value, float)}
    assert kept.keeper.losses == {"shortened": 1}
    assert query(kept.folder, "SELECT count(*) FROM records WHERE time IS NULL").rows == [(1,)]


@pytest.mark.parametrize("is_sealed", [False, True])
def test_names_from_outside_stay_names(keep: KeepIn, tmp_path: Path, is_sealed: bool) -> None:
    kept = keep()
    for number, name in enumerate(HOSTILE):
        kept.keeper.add(
            [record(number, model=name, version=name, columns={name: [1.0], name + "z": ["x"], name + "Z": ["y"]})]
        )
    if is_sealed:
        kept.seal()
        assert segments(kept.folder) == []
    assert counts(kept.folder, by=()).rows[0][0] == len(HOSTILE)
    for name in [name for name in HOSTILE if len(name) < MAX_TEXT]:
        assert counts(kept.folder, by=(), scope=Scope(model=name, version=name)).rows[0][0] == 1, name
        assert window(kept.folder, [name], scope=Scope(model=name))[name] == [1.0]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_million_categories_are_kept(keep: KeepIn) -> None:
    kept = keep(seal_mb=2)
    for start in range(0, 100):
        labels = [f"category-{start * 10_000 + number}" for number in range(10_000)]
        kept.keeper.add([record(start, columns={"label": labels})])
    kept.seal()
    found = query(kept.folder, "SELECT count(DISTINCT c_label), count(*) FROM records").rows
    assert found == [(1_000_000, 1_000_000)]


def test_a_record_too_large_for_a_frame_is_kept_without_its_signals(keep: KeepIn) -> None:
    kept = keep()
    kept.keeper.add([record(1, columns={"label": ["x" * 1000] * 5000}), record(2)])
    assert kept.keeper.losses == {"too_large": 1}
    assert [row["item"] for row in latest(kept.folder).as_dicts()] == [0, None]


def test_signals_that_are_numbers_in_one_model_and_words_in_another_are_asked_together(keep: KeepIn) -> None:
    kept = keep()
    kept.keeper.add([record(1, columns={"grade": [1.0]}), record(2, model="other", columns={"grade": ["good"]})])
    kept.seal()
    assert window(kept.folder, ["grade"])["grade"] == [1.0, "good"]


def test_a_second_writer_is_refused_by_name_and_the_first_goes_on(keep: KeepIn) -> None:
    kept = keep()
    with pytest.raises(UserError, match=r"has a writer of records already: process \d+") as refused:
        RecordKeeper(kept.folder, kept.section)
    assert "folder of its own" in refused.value.hint
    kept.keeper.add([record(1)])
    assert len(latest(kept.folder).rows) == 1


def test_a_new_start_goes_on_where_the_last_one_was(keep: KeepIn) -> None:
    kept = keep()
    kept.keeper.add([record(1)])
    kept.again().add([record(2)])
    assert len(segments(kept.folder)) == 2
    kept.seal()
    assert len(latest(kept.folder).rows) == 2
    kept.again().add([record(3)])
    numbers = [path.name[:10] for path in segments(kept.folder)] + [
        one.segment[:10] for one in sealed_files(kept.folder)
    ]
    assert len(set(numbers)) == 3


def test_what_is_no_record_is_counted_and_raises_nothing(keep: KeepIn) -> None:
    kept = keep()
    broken = record(1, id=None)
    kept.keeper.add([broken, record(2)])
    assert kept.keeper.losses == {"unwritable": 1}
    assert len(latest(kept.folder).rows) == 1


def test_a_journal_that_is_large_is_closed_at_once(keep: KeepIn) -> None:
    kept = keep(seal_mb=0.05)
    for number in range(2000):
        kept.keeper.add([record(number)])
    assert len(list((kept.folder / JOURNAL).iterdir())) > 3
    kept.seal()
    assert query(kept.folder, "SELECT count(DISTINCT id) FROM records").rows == [(2000,)]


def test_without_duckdb_journals_wait_and_say_why(keep: KeepIn, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keep()
    kept.keeper.add([record(1)])
    with monkeypatch.context() as here:
        here.setitem(__import__("sys").modules, "duckdb", None)
        kept.seal()
        assert "pip install 'ferryman[records]'" in str(kept.keeper.figures()["sealing_waits"])
        assert len(segments(kept.folder)) == 1
    kept.seal()
    assert kept.keeper.figures()["sealing_waits"] == ""
    assert len(sealed_files(kept.folder)) == 1


@pytest.mark.parametrize("is_idle", [False, True])
def test_a_journal_that_is_opened_while_another_is_synced_is_not_sealed(
    keep: KeepIn, monkeypatch: pytest.MonkeyPatch, is_idle: bool
) -> None:
    kept = keep()
    kept.keeper.add([record(1)])
    if is_idle:
        kept.seal()
    step = Sealer.step
    opened: list[bool] = []

    def add_first(sealer: Sealer, open_from: int, passed_s: float) -> list[Path]:
        if not opened:  # as the thread that answers may, once `tick` has let go of the lock
            opened.append(True)
            kept.keeper._section = kept.keeper._section.model_copy(update={"seal_mb": 0.0})
            kept.keeper.add([record(2)])
            kept.keeper._section = kept.keeper._section.model_copy(update={"seal_mb": 64.0})
        return step(sealer, open_from, passed_s)

    monkeypatch.setattr(Sealer, "step", add_first)
    kept.keeper.tick()
    kept.keeper.add([record(number) for number in range(3, 50)])
    kept.seal()
    assert query(kept.folder, "SELECT count(*) FROM records").rows == [(49,)]
