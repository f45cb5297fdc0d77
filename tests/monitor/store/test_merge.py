"""Small files become one: no record is lost or seen twice, at any moment, for anyone."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ferryman.core.recording import DirectorySink
from ferryman.monitor.store.check import check
from ferryman.monitor.store.keeper import RETENTION_EVERY_S
from ferryman.monitor.store.layout import SEALED, sealed_files
from ferryman.monitor.store.merge import FEWEST, READ_S
from tests.monitor.store.conftest import KeepIn, Kept
from tests.monitor.store.merging import ids, small_files
from tests.monitor.store.waiting import wait_for


def files(folder: Path) -> list[str]:
    """List all Parquet files that lie there, whoever reads them."""
    return sorted(path.name for path in (folder / SEALED).rglob("*.parquet"))


def turn(kept: Kept) -> None:
    """Let retention's time come."""
    kept.clocks.pass_s(RETENTION_EVERY_S + 1)
    kept.keeper.tick()


def test_a_server_that_is_restarted_often_has_few_files_in_the_end(keep: KeepIn) -> None:
    kept = keep()
    small_files(kept.folder, FEWEST)
    turn(kept)
    assert ids(kept.folder) == (10 * FEWEST, 10 * FEWEST)
    [merged] = sealed_files(kept.folder)
    assert merged.is_merged
    assert merged.is_whole()
    assert len(files(kept.folder)) == FEWEST + 1, "whoever has just listed the folder may read the old ones"

    os.utime(merged.replaced_path, (time.time() - READ_S - 1,) * 2)
    turn(kept)
    assert files(kept.folder) == [merged.path.name]
    assert not merged.replaced_path.exists()
    assert ids(kept.folder) == (10 * FEWEST, 10 * FEWEST)
    assert check(kept.folder).is_whole


def test_what_was_merged_is_merged_again_and_old_files_do_not_come_back(keep: KeepIn) -> None:
    kept = keep()
    small_files(kept.folder, FEWEST)
    turn(kept)
    small_files(kept.folder, FEWEST, first=FEWEST)
    turn(kept)
    assert len(sealed_files(kept.folder)) == 1
    assert ids(kept.folder) == (20 * FEWEST, 20 * FEWEST)
    for _ in range(2):
        for names in (kept.folder / SEALED).rglob("*.merged.json"):
            os.utime(names, (0, 0))
        turn(kept)
    assert len(files(kept.folder)) == 1
    assert ids(kept.folder) == (20 * FEWEST, 20 * FEWEST)


def test_a_merge_that_was_not_ended_changes_nothing(keep: KeepIn) -> None:
    kept = keep()
    small_files(kept.folder, FEWEST - 1)
    [day] = {one.path.parent for one in sealed_files(kept.folder)}
    last = sealed_files(kept.folder)[-1]
    (day / f"{last.segment}.00000000.merged.json").write_text('["' + last.path.name + '"]')
    (day / f".{last.segment}.00000000.merged.json.new").write_text("[")
    assert ids(kept.folder) == (10 * (FEWEST - 1),) * 2
    turn(kept)
    assert [path.suffix for path in day.iterdir()] == [".parquet"] * (FEWEST - 1)


def test_a_damaged_file_is_left_out_of_a_merge(keep: KeepIn) -> None:
    kept = keep()
    small_files(kept.folder, FEWEST + 1)
    damaged = sealed_files(kept.folder)[2].path
    damaged.write_bytes(damaged.read_bytes().replace(b"id-", b"xx-", 1))
    turn(kept)
    assert [one.path for one in sealed_files(kept.folder) if not one.is_merged] == [damaged]
    assert len(check(kept.folder).faults) == 1


def test_what_a_sink_has_not_got_yet_is_not_merged(keep: KeepIn, tmp_path: Path) -> None:
    there = tmp_path / "in-the-way"
    there.write_text("a file where the folder should be")
    kept = keep(sinks={"copies": DirectorySink(kind="directory", path=str(there))})
    small_files(kept.folder, FEWEST)
    turn(kept)
    assert not [one for one in sealed_files(kept.folder) if one.is_merged]
    there.unlink()
    kept.again()
    wait_for(lambda: len(list(there.rglob("*.parquet"))) == FEWEST)
    wait_for(lambda: kept.keeper.figures()["sinks"]["copies"]["waiting_bytes"] == 0)  # type: ignore[index]  # JSON
    turn(kept)
    assert len(sealed_files(kept.folder)) == 1
    assert len(list(there.rglob("*.parquet"))) == FEWEST, "the sink has each record once"


_READER = """
import sys
from pathlib import Path
from ferryman.monitor.store.query import query
while True:
    print(*query(Path(sys.argv[1]), "SELECT count(*), count(DISTINCT id) FROM records").rows[0], flush=True)
"""


@pytest.mark.slow
def test_whoever_asks_meanwhile_sees_each_record_once(keep: KeepIn) -> None:
    kept = keep()
    small_files(kept.folder, 3 * FEWEST)
    whole = (30 * FEWEST, 30 * FEWEST)
    with subprocess.Popen(
        [sys.executable, "-c", _READER, str(kept.folder)], stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        seen: list[str] = []
        hearing = threading.Thread(target=lambda: seen.extend(reader.stdout or ()))
        hearing.start()
        wait_for(lambda: bool(seen))
        for _ in range(6):
            for names in (kept.folder / SEALED).rglob("*.merged.json"):
                os.utime(names, (0, 0))
            turn(kept)
            before = len(seen)
            wait_for(lambda before=before: len(seen) > before)  # type: ignore[misc]  # its default is the loop's
        reader.kill()
        hearing.join(10)
    assert len(files(kept.folder)) == 1
    assert {tuple(map(int, line.split())) for line in seen if line.endswith("\n")} == {whole}


@pytest.mark.slow
def test_of_twenty_mergers_that_are_killed_none_loses_or_doubles_a_record(keep: KeepIn) -> None:
    kept = keep()
    command = [sys.executable, "-m", "tests.monitor.store.merging", str(kept.folder), "20", "7"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    assert [seen for seen, _ in told["seen"]] == [wanted for _, wanted in told["seen"]]
    assert told["killed"] > 9, "most were killed at work"
    for _ in range(6):
        for names in (kept.folder / SEALED).rglob("*.merged.json"):
            os.utime(names, (0, 0))
        turn(kept)
    assert list(ids(kept.folder)) == told["seen"][-1][1]
    assert len(files(kept.folder)) < FEWEST
    assert check(kept.folder).is_whole
