import argparse
import gzip
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ferryman.cli.inputs import read_items
from ferryman.cli.options import seconds_or_duration
from ferryman.core.errors import DataError, InputError

Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_text(name: str, text: str) -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write_text


def test_a_picture_stays_a_path(write: Write) -> None:
    name = write("photo.jpg", "")
    assert read_items([name]) == [(name, Path(name))]


def test_each_row_of_a_table_is_an_item_whose_cells_stay_as_they_are_written(write: Write) -> None:
    name = write("rows.csv", "\ufeffcity,code,price\nBern,01234,1.50\n,,\n")
    items = read_items([name])
    assert [row for _, row in items] == [
        {"city": "Bern", "code": "01234", "price": "1.50"},
        {"city": "", "code": "", "price": ""},
    ]
    assert [where for where, _ in items] == [f"{name}[0]", f"{name}[1]"]


def test_packed_tables_and_tabs_are_read_too(tmp_path: Path, write: Write) -> None:
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n"))
    for name in (str(tmp_path / "rows.csv.gz"), write("rows.tsv", "a\tb\n1\t2\n")):
        assert [row for _, row in read_items([name])] == [{"a": "1", "b": "2"}]


def test_a_row_of_the_wrong_length_is_named(write: Write) -> None:
    with pytest.raises(DataError, match=r"rows\.csv, line 3: 1 cells, but 2 columns"):
        read_items([write("rows.csv", "a,b\n1,2\n1\n")])


def test_arrays_come_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", images=np.ones((1, 2), np.float32))
    [(_, item)] = read_items([str(tmp_path / "arrays.npz")])
    assert isinstance(item, dict)
    assert item["images"].dtype == np.float32


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", images=np.array([object()], dtype=object))
    with pytest.raises(InputError, match=r"no \.npz of plain arrays"):
        read_items([str(tmp_path / "arrays.npz")])


@pytest.mark.parametrize(
    ("text", "count"), [('{"a": 1}', 1), ('[{"a": 1}, {"a": 2}]', 2), ('{"a": 1}\n{"a": 2}\n\n{"a": 3}\n', 3)]
)
def test_json_holds_one_row_a_list_or_one_a_line(write: Write, text: str, count: int) -> None:
    assert len(read_items([write("rows.json", text)])) == count


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "{'a': 1}", "a\nb"])
def test_what_is_not_json_is_refused_with_the_files_name(write: Write, text: str) -> None:
    with pytest.raises(InputError, match=r"rows\.json is not JSON"):
        read_items([write("rows.json", text)])


def test_json_that_is_no_row_is_refused(write: Write) -> None:
    with pytest.raises(InputError, match="holds a number, not rows"):
        read_items([write("rows.json", "[1, 2]")])


def test_an_empty_table_is_nothing_to_ask(write: Write) -> None:
    with pytest.raises(DataError, match="holds no rows"):
        read_items([write("rows.csv", "a,b\n")])


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(DataError, match="can't be read"):
        read_items([str(tmp_path / "rows.csv")])


def test_an_empty_text_is_no_folder() -> None:
    with pytest.raises(InputError, match="an empty text or name"):
        read_items([""], lambda: "text")


def test_a_time_is_given_with_a_unit_or_in_seconds_as_in_the_file() -> None:
    assert seconds_or_duration("60") == seconds_or_duration("60s") == seconds_or_duration("1m")
    with pytest.raises(argparse.ArgumentTypeError, match="no time"):
        seconds_or_duration("soon")


def test_a_dash_reads_json_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"a": 1}'))
    assert read_items(["-"]) == [("stdin", {"a": 1})]


def test_a_folder_is_refused_with_what_can_be_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        read_items([str(tmp_path)])


@pytest.mark.parametrize("name", ["revue.txt", "texts/one", "rows.json"])
def test_a_mistyped_file_is_never_taken_as_the_text(name: str) -> None:
    with pytest.raises(InputError, match=f"there is no file {name}"):
        read_items([name], lambda: "words")


def test_a_word_and_a_sentence_are_texts() -> None:
    texts = ["splendid", "It ended. Finally!", "and/or so"]
    assert [item for _, item in read_items(texts, lambda: "words")] == [{"words": text} for text in texts]
