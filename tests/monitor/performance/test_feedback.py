from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ferryman.core.errors import DataError, InputError
from ferryman.monitor.performance.feedback import Feedback, name_label, read_feedback, write_feedback
from ferryman.monitor.performance.files import read_rows
from ferryman.monitor.store.engine import connect

NOW_S = 1.8e9


@pytest.mark.parametrize(
    ("row", "read"),
    [
        ({"id": "a", "truth": "car"}, [Feedback("a", 0, NOW_S, truth="car")]),
        ({"id": 7, "truth": 1.5, "item": 2, "at": 5}, [Feedback("7", 2, 5.0, truth=1.5)]),
        ({"id": "a", "right": "FALSE", "truth": "", "at": None}, [Feedback("a", 0, NOW_S, right=False)]),
        ({"id": "a", "objects": "3"}, [Feedback("a", 0, NOW_S, objects=3.0)]),
        ({"id": "a", "truth": ["x", 2]}, [Feedback("a", 0, NOW_S, truth="x"), Feedback("a", 1, NOW_S, truth=2.0)]),
        ({"id": "a", "right": True, "at": "2026-11-23T18:00:00Z"}, [Feedback("a", 0, 1795456800.0, right=True)]),
        ({"id": "a", "right": 1, "at": datetime(2026, 11, 23, tzinfo=UTC)}, [Feedback("a", 0, 1795392000, right=True)]),
    ],
)  # fmt: skip
def test_a_row_is_read_by_its_keys(row: dict[str, Any], read: list[Feedback]) -> None:
    assert read_feedback([row], NOW_S) == read
    assert read_feedback(write_feedback(read), 0.0) == read


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a", "row 1 is no object"),
        ({"truth": 1}, "row 1: 'id' must be the request's id (1 to 1024 characters), not missing"),
        ({"id": "a"}, "row 1: one of 'truth', 'right', 'objects' is needed, not none"),
        ({"id": "a", "truth": 1, "right": True}, "not 'truth' and 'right'"),
        ({"id": "a", "lable": "car"}, "row 1: unknown key 'lable'"),
        ({"id": "a", "truth": {"x": 1}}, """'truth' must be a label or a number, not {"x": 1}"""),
        ({"id": "a", "truth": float("nan")}, "'truth' must be a label or a number, not NaN"),
        ({"id": "a", "right": "maybe"}, "'right' must be true or false, not \"maybe\""),
        ({"id": "a", "objects": -1}, "'objects' must be a whole number, not -1"),
        ({"id": "a", "truth": 1, "item": 0.5}, "'item' must be 0, 1, 2 ..., not 0.5"),
        ({"id": "a", "truth": 1, "at": "yesterday"}, "'at' must be a time, not \"yesterday\""),
        ({"id": "a", "truth": [1, 2], "item": 3}, "a list of truths is of all items"),
    ],
)
def test_a_row_of_the_wrong_shape_is_refused_by_its_place_and_name(row: Any, said: str) -> None:
    with pytest.raises(InputError) as refused:
        read_feedback([{"id": "good", "truth": 1}, row], NOW_S)
    assert said in str(refused.value)
    assert refused.value.hint


def test_labels_are_written_as_answers_write_them() -> None:
    assert [name_label(truth) for truth in (1.0, "1.0", "01", 2.5, "car", "-3.00")] == [
        "1",
        "1",
        "01",
        "2.5",
        "car",
        "-3",
    ]


def test_files_of_each_kind_hold_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,truth,at\nr1,007,2026-11-23T18:00:00Z\nr2,car,\n")
    (tmp_path / "a.jsonl").write_text('{"id":"r1","truth":"007","at":1795456800}\n\n{"id":"r2","truth":"car"}\n')
    (tmp_path / "a.json").write_text('[{"id":"r1","truth":"007","at":1795456800},{"id":"r2","truth":"car"}]')
    rows = (
        "SELECT 'r1' AS id, '007' AS truth, TIMESTAMPTZ '2026-11-23 18:00:00Z' AS at UNION ALL SELECT 'r2', 'car', NULL"
    )
    with connect() as connection:
        connection.execute(f"COPY ({rows}) TO '{tmp_path}/a.parquet' (FORMAT parquet)")
    wanted = [Feedback("r1", 0, 1795456800.0, truth="007"), Feedback("r2", 0, NOW_S, truth="car")]
    for kind in ("csv", "jsonl", "json", "parquet"):
        assert read_feedback(read_rows(tmp_path / f"a.{kind}"), NOW_S) == wanted


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xlsx", "", "can't be read from '.xlsx'"),
        ("a.csv", "number,truth\n1,2\n", "its header has no 'id' but number, truth"),
        ("a.jsonl", '{"id": 1}\n{', "line 2 is no JSON"),
        ("a.json", '{"rows": 1}', "it holds no list"),
        ("a.parquet", "no parquet at all", "can't be read"),
    ],
)
def test_a_file_that_is_none_is_refused_by_name(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as refused:
        read_rows(tmp_path / name)
    assert said in str(refused.value)
    with pytest.raises(DataError, match="No such file"):
        read_rows(tmp_path / "none.parquet")
