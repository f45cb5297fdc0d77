"""Scores of tables: the answers of `api.infer`, whatever the form of the table, and its hostile sides."""

import json
from pathlib import Path
from typing import Any

import pytest

from ferryman import api
from ferryman.batch.finish import join_parts
from ferryman.core.bundle import Bundle
from ferryman.core.errors import ConfigError, DataError, UserError
from tests.batch.making import COLUMNS, Row, features, read, read_folder, write_csv, write_parquet


def test_answers_of_parquet_are_those_of_infer_row_by_row(tmp_path: Path, bundle: Bundle, elec: list[Row]) -> None:
    rows = elec[:3000]
    scored = api.score(
        bundle.path, write_parquet(tmp_path / "in.parquet", rows), tmp_path / "out", chunk=700, processes=2
    )
    found = read_folder(tmp_path / "out")
    answers = api.infer(bundle, features(rows), threads=1)
    assert scored.figures["answered"] == 3000
    assert [row["row"] for row in found] == list(range(3000))
    assert [(row["id"], row["class"]) for row in found] == [(row["id"], row["class"]) for row in rows]
    assert [row["label"] for row in found] == [answer["label"] for answer in answers]
    for row, answer in zip(found, answers, strict=True):
        assert row["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-6)
        assert row["confidence"] == pytest.approx(max(answer["probabilities"].values()), abs=1e-6)


@pytest.mark.parametrize("form", ["csv", "csv.gz", "jsonl"])
def test_text_tables_give_the_same_answers(tmp_path: Path, bundle: Bundle, elec: list[Row], form: str) -> None:
    import gzip

    rows = elec[:500]
    path = tmp_path / f"in.{form}"
    if form == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    else:
        plain = write_csv(tmp_path / "plain.csv", rows)
        path = plain if form == "csv" else path
        if form == "csv.gz":
            path.write_bytes(gzip.compress(plain.read_bytes()))
    api.score(bundle.path, path, tmp_path / "out", processes=1)
    found = read_folder(tmp_path / "out")
    answers = api.infer(bundle, features(rows), threads=1)
    assert [row["id"] for row in found] == [str(row["id"]) for row in rows]
    assert [row["label"] for row in found] == [answer["label"] for answer in answers]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_one_file_holds_all_rows_and_is_not_made_twice(
    tmp_path: Path, bundle: Bundle, elec: list[Row], suffix: str
) -> None:
    given = write_parquet(tmp_path / "in.parquet", elec[:300])
    out = tmp_path / f"out.{suffix}"
    api.score(bundle.path, given, out, chunk=100, processes=1)
    text = "" if suffix == "parquet" else out.read_text(encoding="utf-8")
    if suffix == "parquet":
        assert [row["row"] for row in read(out)] == list(range(300))
    elif suffix == "jsonl":
        assert [json.loads(line)["row"] for line in text.splitlines()] == list(range(300))
    else:
        assert len(text.splitlines()) == 301
        assert '""UP""' in text
    changed_s = out.stat().st_mtime_ns
    again = api.score(bundle.path, given, out, chunk=100, processes=1)
    assert (again.resumed_rows, out.stat().st_mtime_ns) == (300, changed_s)
    assert not list(tmp_path.glob("out.*.score/part-*"))
    out.write_text("another's")
    with pytest.raises(UserError, match="not of this work"):
        api.score(bundle.path, given, out, chunk=100, processes=1)
    assert out.read_text() == "another's"
    api.score(bundle.path, given, out, chunk=100, processes=1, again=True)
    assert out.stat().st_size > 1000


def test_rows_that_are_refused_are_set_aside_by_name(tmp_path: Path, bundle: Bundle, elec: list[Row]) -> None:
    rows: list[Row] = [dict(row) for row in elec[:400]]
    rows[7]["nswprice"], rows[123]["vicprice"], rows[399]["nswdemand"] = float("nan"), float("inf"), float("nan")
    scored = api.score(bundle.path, write_parquet(tmp_path / "in.parquet", rows), tmp_path / "out", processes=1)
    refused = [json.loads(line) for line in (tmp_path / "out" / "refused.jsonl").read_text().splitlines()]
    assert [(row["row"], row["keys"]["id"], row["why"]) for row in refused] == [
        (7, 7, "refused"), (123, 123, "refused"), (399, 399, "refused"),
    ]  # fmt: skip
    assert "'nswprice' is empty" in refused[0]["error"]
    assert "'vicprice': inf is too large" in refused[1]["error"]
    assert scored.figures["answered"] == 397
    assert {row["row"] for row in read_folder(tmp_path / "out")} == set(range(400)) - {7, 123, 399}


def test_too_many_refused_rows_stop_it_and_more_may_be_allowed(tmp_path: Path, bundle: Bundle, elec: list[Row]) -> None:
    rows = [{**row, "nswprice": "much" if at % 3 == 0 else row["nswprice"]} for at, row in enumerate(elec[:300])]
    given = write_csv(tmp_path / "in.csv", rows)
    with pytest.raises(
        DataError, match=r"100 of 300 rows were refused, over 0.1 of all: row 0: .*'much' is not a number"
    ):
        api.score(bundle.path, given, tmp_path / "out", max_refused=0.1, processes=1)
    scored = api.score(bundle.path, given, tmp_path / "out", max_refused=0.5, processes=1)
    assert (scored.figures["answered"], scored.resumed_rows) == (200, 300)


def test_another_input_bundle_or_option_is_refused_by_name(tmp_path: Path, bundle: Bundle, elec: list[Row]) -> None:
    given = write_csv(tmp_path / "in.csv", elec[:100])
    api.score(bundle.path, given, tmp_path / "out", processes=1)
    with pytest.raises(UserError, match="another option chunk: option chunk was 10000, is 50") as told:
        api.score(bundle.path, given, tmp_path / "out", chunk=50, processes=1)
    assert "--again" in told.value.hint
    write_csv(given, elec[1:101])
    with pytest.raises(UserError, match="begun with another input"):
        api.score(bundle.path, given, tmp_path / "out", processes=1)
    scored = api.score(bundle.path, given, tmp_path / "out", again=True, chunk=50, processes=1)
    assert (scored.resumed_rows, read_folder(tmp_path / "out")[0]["id"]) == (0, "1")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, bundle: Bundle, elec: list[Row]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(UserError, match="no work of ferryman score"):
        api.score(bundle.path, write_csv(tmp_path / "in.csv", elec[:10]), tmp_path / "mine", again=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "dear"


HOSTILE: dict[str, tuple[str, str]] = {
    "missing column": ("id,nswprice,nswdemand\n1,2,3\n", "lacks column 'vicprice'"),
    "empty": ("", "must name each column once"),
    "only a head": (",".join(COLUMNS) + "\n", "holds no rows"),
    "column twice": ("nswprice,nswprice,vicprice\n1,2,3\n", "must name each column once"),
    "cells that are too many": (",".join(COLUMNS) + "\n1,2,3\n1,2,3,4\n", "line 3: 4 cells, but 3 columns"),
    "open quotes": (",".join(COLUMNS) + '\n1,2,3\n1,2,"3\n', "unexpected end of data"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_table_that_is_wrong_is_named(tmp_path: Path, bundle: Bundle, name: str) -> None:
    text, told = HOSTILE[name]
    (tmp_path / "in.csv").write_text(text)
    with pytest.raises(UserError, match=told):
        api.score(bundle.path, tmp_path / "in.csv", tmp_path / "out", processes=1)


def test_a_truncated_parquet_is_refused(tmp_path: Path, bundle: Bundle, elec: list[Row]) -> None:
    given = write_parquet(tmp_path / "in.parquet", elec[:300])
    given.write_bytes(given.read_bytes()[:-100])
    with pytest.raises(DataError, match="no whole Parquet file"):
        api.score(bundle.path, given, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_long_texts_nulls_and_equal_keys_go_along(tmp_path: Path, bundle: Bundle, elec: list[Row]) -> None:
    long = "x" * 1_000_000
    rows: list[Row] = [
        {**row, "id": 1, "label": f"{long}{at % 2}", "note": 'a "b"\0,\n\ud800'} for at, row in enumerate(elec[:40])
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    api.score(bundle.path, tmp_path / "in.jsonl", tmp_path / "out", processes=1, keys=("id", "label", "note"))
    found = read_folder(tmp_path / "out")
    assert len(list((tmp_path / "out").glob("part-*"))) == 3  # 16 MiB each at most
    assert {row["id"] for row in found} == {"1"}
    assert [row["input_label"] for row in found] == [f"{long}{at % 2}" for at in range(40)]
    assert {row["label"] for row in found} <= {"UP", "DOWN"}


def test_keys_that_are_not_there_are_named(tmp_path: Path, bundle: Bundle, elec: list[Row]) -> None:
    with pytest.raises(ConfigError, match="no column 'ident'"):
        api.score(bundle.path, write_csv(tmp_path / "in.csv", elec[:10]), tmp_path / "out", keys=("ident",))


def test_only_the_first_rows_where_a_limit_is_given(tmp_path: Path, bundle: Bundle, elec: list[Row]) -> None:
    given = write_parquet(tmp_path / "in.parquet", elec[:1000])
    scored = api.score(bundle.path, given, tmp_path / "out", limit=250, chunk=100, processes=1)
    assert scored.figures["rows"] == 250
    assert [row["row"] for row in read_folder(tmp_path / "out")] == list(range(250))


def test_a_kill_after_the_one_file_is_there_loses_nothing(
    tmp_path: Path, bundle: Bundle, elec: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    given, out = write_parquet(tmp_path / "in.parquet", elec[:300]), tmp_path / "out.parquet"

    class Killed(BaseException):
        pass

    def join_and_die(*told: Any) -> None:
        join_parts(*told)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("ferryman.batch.run.join_parts", join_and_die)
        with pytest.raises(Killed):
            api.score(bundle.path, given, out, chunk=100, processes=1)
    changed_s = out.stat().st_mtime_ns
    again = api.score(bundle.path, given, out, chunk=100, processes=1)
    assert (again.resumed_rows, again.figures["rows"], out.stat().st_mtime_ns) == (300, 300, changed_s)
