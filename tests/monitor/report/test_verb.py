"""`ferryman report` as people run it."""

import json
import time
from pathlib import Path

import pytest

from tests.cli.running import ferryman
from tests.monitor.report.making import Week, record

pytest.importorskip("duckdb")


def test_a_page_and_the_same_as_json(tmp_path: Path) -> None:
    now_s = time.time()
    Week(tmp_path / "kept").keep([record(number, now_s - 100 + number) for number in range(50)])
    page = tmp_path / "page.html"
    ended = ferryman("report", str(tmp_path / "kept"), "--since", "1h", "-o", str(page))
    assert ended.returncode == 0, ended.stderr
    assert "50 records of 1 versions" in ended.stderr
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    told = json.loads(ferryman("report", str(tmp_path / "kept"), "--since", "1h", "--json").stdout)
    assert [(one["model"], one["records"]) for one in told["versions"]] == [("street", 50)]


def test_a_folder_that_is_none_and_a_page_that_can_not_be_written_are_told_with_a_way_out(tmp_path: Path) -> None:
    ended = ferryman("report", str(tmp_path), "-o", str(tmp_path / "page.html"))
    assert (ended.returncode, "holds no records" in ended.stderr, "hint:" in ended.stderr) == (2, True, True)
    assert not (tmp_path / "page.html").exists()
    (tmp_path / "file").touch()
    ended = ferryman("report", str(tmp_path), "-o", str(tmp_path / "file" / "page.html"))
    assert (ended.returncode, "can't be written" in ended.stderr) == (2, True)
