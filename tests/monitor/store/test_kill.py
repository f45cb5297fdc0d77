"""A writer that is killed with SIGKILL at any moment loses nothing that it had added."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from ferryman.core.recording import DirectorySink, RecordsSection
from ferryman.monitor.store.check import check
from ferryman.monitor.store.keeper import RecordKeeper
from ferryman.monitor.store.layout import segments
from ferryman.monitor.store.query import query
from tests.monitor.store.conftest import Clocks
from tests.monitor.store.killed import BATCH
from tests.monitor.store.waiting import wait_for

KILLS = 50


def test_of_fifty_killed_writers_every_record_that_was_added_is_there_once(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    command = [sys.executable, "-m", "tests.monitor.store.killed", str(folder), str(KILLS), "20"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    sure = json.loads(ended.stdout.splitlines()[-1])
    assert len(sure) == KILLS

    rows = query(folder, "SELECT id, count(*) FROM records GROUP BY id").rows
    assert {count for _, count in rows} == {2}, "each record has its two items, once"
    found: dict[int, set[int]] = defaultdict(set)
    for name, _ in rows:
        child, number = name.split("-")
        found[int(child)].add(int(number))
    for child, added in enumerate(sure):
        assert found[child] >= set(range(added)), f"writer {child} lost what it had added"
        assert len(found[child]) <= added + BATCH
    assert [fault.what for fault in check(folder).faults if "torn end" not in fault.what] == []

    clocks = Clocks()
    sink = DirectorySink(kind="directory", path=str(tmp_path / "copies"))
    keeper = RecordKeeper(
        folder, RecordsSection(min_free_mb=0, sinks={"copies": sink}), monotonic=lambda: clocks.passed_s
    )
    try:
        while segments(folder):
            clocks.pass_s(10)
            keeper.tick()
        kept = query(folder, "SELECT count(*), count(DISTINCT id) FROM records").rows
        wait_for(lambda: _count_copies(tmp_path / "copies") == kept, within_s=60)
        assert keeper.losses.get("corrupt", 0) == 0
    finally:
        keeper.close()
    assert query(folder, "SELECT count(DISTINCT id) FROM records").rows == [(sum(map(len, found.values())),)]


def _count_copies(folder: Path) -> list[tuple[int, int]]:
    """Count items and records of a sink's files: the small ones, as what it has not got yet is not merged."""
    import duckdb

    files = [str(path) for path in folder.rglob("*.parquet")]
    if not files:
        return []
    counted: list[tuple[int, int]] = duckdb.read_parquet(files).aggregate("count(*), count(DISTINCT id)").fetchall()
    return counted
