"""Disks that are full, files that are damaged, clocks that jump: what is lost is counted, and all else goes on."""

import os
import resource
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ferryman.monitor.store.check import check
from ferryman.monitor.store.layout import DAMAGED, JOURNAL, sealed_files, segments
from ferryman.monitor.store.query import latest, query
from tests.monitor.store.conftest import NOON_S, KeepIn, Kept, record


def kept_ids(folder: Path) -> list[str]:
    return [row[0] for row in query(folder, "SELECT id FROM records").rows]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a disk of 2 MB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("NOT TESTED: to mount a small disk wants root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=False, timeout=30)
    if mounted.returncode:
        pytest.skip("NOT TESTED: no disk can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True, timeout=30)


def test_a_full_disk_loses_what_is_counted_and_nothing_else_and_room_ends_it(keep: KeepIn, small_disk: Path) -> None:
    kept = keep(small_disk / "kept", seal_mb=0.2)
    filler = small_disk / "filler"
    filler.write_bytes(b"\1" * (shutil.disk_usage(small_disk).free - 300_000))
    added = 0
    for _ in range(300):
        kept.keeper.add([record(added + number, trace=os.urandom(16).hex()) for number in range(20)])
        added += 20
        kept.clocks.pass_s(1)
        kept.keeper.tick()
    lost = kept.keeper.losses["disk_full"]
    assert 0 < lost < added
    assert len(kept_ids(kept.folder)) == added - lost
    filler.unlink()
    kept.keeper.add([record(added + number) for number in range(20)])
    for _ in range(10):
        kept.clocks.pass_s(400)
        kept.keeper.tick()
    ids = kept_ids(kept.folder)
    assert len(ids) == len(set(ids)) == added + 20 - lost
    assert segments(kept.folder) == []
    assert dict(kept.keeper.losses) == {"disk_full": lost}
    assert check(kept.folder).is_whole


def test_a_disk_with_little_room_is_left_to_others(keep: KeepIn) -> None:
    kept = keep(min_free_mb=1e9)
    kept.keeper.add([record(1)])
    kept.keeper.add_payload("id-1", "street", "1", "text", b"hello", "rate")
    assert kept.keeper.losses == {"disk_low": 1, "payload_disk_low": 1}
    assert query(kept.folder, "SELECT count(*) FROM records").rows == [(0,)]


def test_a_journal_that_may_not_grow_keeps_what_fitted_whole(keep: KeepIn) -> None:
    kept = keep()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        for number in range(500):
            kept.keeper.add([record(number)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    lost = kept.keeper.losses["disk_full"]
    kept.keeper.add([record(500)])
    assert 0 < lost < 500
    assert len(kept_ids(kept.folder)) == 501 - lost
    assert check(kept.folder).is_whole


def flip(path: Path, at: float) -> None:
    held = bytearray(path.read_bytes())
    held[int(at * len(held))] ^= 0x10
    path.write_bytes(held)


def cut(path: Path, at: float) -> None:
    os.truncate(path, int(at * path.stat().st_size))


def stopped_with_journal(keep: KeepIn, harm: Callable[[Path], None]) -> Kept:
    kept = keep()
    kept.keeper.add([record(number) for number in range(200)])
    kept.keeper.close()
    [journal] = segments(kept.folder)
    harm(journal)
    kept.keeper = kept._made()
    return kept


@pytest.mark.parametrize("at", [0.0001, 0.3, 0.5001, 0.77])
def test_a_journal_with_a_flipped_bit_loses_one_record_at_most_and_is_set_aside(keep: KeepIn, at: float) -> None:
    kept = stopped_with_journal(keep, lambda journal: flip(journal, at))
    assert len(kept_ids(kept.folder)) >= 199
    kept.seal()
    ids = kept_ids(kept.folder)
    assert len(set(ids)) == len(ids) >= 199
    if len(ids) < 200:
        assert kept.keeper.losses == {"corrupt": 1}
        assert [path.name.split(".")[1:] for path in (kept.folder / DAMAGED).iterdir()] == [["corrupt", "log"]]
        assert "set aside" in check(kept.folder).faults[0].what


@pytest.mark.parametrize("at", [0.0, 0.00005, 0.4, 0.9999])
def test_a_journal_that_is_cut_off_gives_all_before_the_cut(keep: KeepIn, at: float) -> None:
    kept = stopped_with_journal(keep, lambda journal: cut(journal, at))
    kept.seal()
    ids = kept_ids(kept.folder)
    assert ids == [f"id-{number}" for number in range(len(ids))]
    assert len(ids) == pytest.approx(200 * at, abs=1.1)
    assert kept.keeper.losses.get("torn", 0) == (at in (0.4, 0.9999))


def noise(path: Path) -> None:
    path.write_bytes(os.urandom(100_000))


def test_a_journal_of_noise_is_no_obstacle(keep: KeepIn) -> None:
    kept = stopped_with_journal(keep, noise)
    kept.keeper.add([record(7)])
    kept.seal()
    assert kept_ids(kept.folder) == ["id-7"]
    assert segments(kept.folder) == []


@pytest.mark.parametrize(
    "harm", [lambda path: cut(path, 0.5), lambda path: path.write_bytes(b""), lambda path: cut(path, 0.999)]
)
def test_parquet_that_is_cut_off_is_set_aside_at_the_next_start(keep: KeepIn, harm: Callable[[Path], None]) -> None:
    kept = keep()
    kept.keeper.add([record(1)])
    kept.seal()
    kept.keeper.add([record(2)])
    kept.seal()
    harm(sealed_files(kept.folder)[0].path)
    kept.again()
    assert kept.keeper.losses == {"damaged_files": 1}
    assert kept_ids(kept.folder) == ["id-2"]
    assert [path.name.endswith(".truncated.parquet") for path in (kept.folder / DAMAGED).iterdir()] == [True]


def test_parquet_that_turns_out_damaged_is_left_out_of_answers_by_name(keep: KeepIn) -> None:
    kept = keep()
    for number in range(3):
        kept.keeper.add([record(1000 * number + each, trace=os.urandom(16).hex()) for each in range(1000)])
        kept.seal()
    worst = sealed_files(kept.folder)[1]
    held = bytearray(worst.path.read_bytes())
    held[100:-2000] = os.urandom(len(held) - 2100)
    worst.path.write_bytes(held)
    rows = query(kept.folder, "SELECT count(*), count(DISTINCT trace) FROM records")
    assert rows.rows == [(2000, 2000)]
    assert rows.skipped == (worst.path.relative_to(kept.folder).as_posix(),)
    assert [fault.file for fault in check(kept.folder).faults] == list(rows.skipped)


def test_a_single_flipped_bit_in_parquet_is_found_by_check(keep: KeepIn) -> None:
    kept = keep()
    kept.keeper.add([record(number) for number in range(500)])
    kept.seal()
    assert check(kept.folder).is_whole
    flip(sealed_files(kept.folder)[0].path, 0.4)
    assert [fault.what for fault in check(kept.folder).faults] == ["its bytes are not those that were written"]


def test_strange_files_in_the_folder_are_left_alone(keep: KeepIn) -> None:
    kept = keep()
    kept.keeper.add([record(1)])
    kept.seal()
    place = sealed_files(kept.folder)[0].path.parent
    strangers = [place / "notes.txt", place / "x.parquet", kept.folder / JOURNAL / "x.log", kept.folder / "y"]
    for stranger in strangers:
        stranger.write_text("mine")
    os.symlink("/etc", kept.folder / "records" / "model=link")
    kept.again().add([record(2)])
    kept.seal()
    assert sorted(kept_ids(kept.folder)) == ["id-1", "id-2"]
    assert all(stranger.read_text() == "mine" for stranger in strangers)


def days_kept(kept: Kept) -> list[str]:
    return [one.day for one in sealed_files(kept.folder)]


def a_week_of_days(kept: Kept) -> None:
    for day in range(7):
        kept.keeper.add([record(day, at_s=NOON_S + 86_400 * day)])
        kept.clocks.pass_s(86_400)
        kept.seal()


def test_what_is_too_old_goes(keep: KeepIn) -> None:
    kept = keep(keep_days=3)
    a_week_of_days(kept)
    assert days_kept(kept) == ["2026-11-27", "2026-11-28", "2026-11-29"]


def test_a_clock_that_jumps_ahead_deletes_nothing_until_it_has_gone_on_evenly_for_an_hour(keep: KeepIn) -> None:
    kept = keep(keep_days=30)
    kept.keeper.add([record(1)])
    kept.seal()
    kept.clocks.now_s += 3650 * 86_400
    for _ in range(50):
        kept.clocks.pass_s(60)
        kept.keeper.tick()
    assert days_kept(kept) == ["2026-11-23"]
    assert kept.keeper.figures()["clock_jumps"] == 1
    kept.clocks.now_s -= 3650 * 86_400
    for _ in range(200):
        kept.clocks.pass_s(60)
        kept.keeper.tick()
    assert days_kept(kept) == ["2026-11-23"]


def test_a_clock_that_is_wrong_at_the_start_deletes_nothing_either(keep: KeepIn, tmp_path: Path) -> None:
    kept = keep(keep_days=30)
    kept.clocks.now_s = os.stat(tmp_path).st_mtime
    kept.keeper.add([record(1, at_s=kept.clocks.now_s)])
    kept.seal()
    kept.clocks.now_s += 3650 * 86_400
    kept.again().tick()
    assert len(days_kept(kept)) == 1


def test_records_go_on_while_the_clock_goes_back(keep: KeepIn) -> None:
    kept = keep()
    for number in range(5):
        kept.keeper.add([record(number, at_s=kept.clocks.now_s)])
        kept.clocks.now_s -= 400 * 86_400
        kept.seal()
    assert len(kept_ids(kept.folder)) == 5


def test_what_is_too_much_goes_the_oldest_first_and_never_what_is_being_written(keep: KeepIn) -> None:
    kept = keep(max_mb=0.01)
    a_week_of_days(kept)
    days = days_kept(kept)
    assert 0 < len(days) < 7
    assert days[-1] == "2026-11-29"
    kept.keeper.add([record(1000 + number) for number in range(2000)])
    kept.clocks.pass_s(59)
    kept.keeper.tick()
    assert len(latest(kept.folder, 5000).rows) >= 2000


def test_reading_beside_a_writer_that_seals_sees_each_record_once(keep: KeepIn) -> None:
    kept = keep(seal_mb=0.02)
    ended = threading.Event()
    added = [0]

    def write() -> None:
        for number in range(0, 3000, 10):
            kept.keeper.add([record(number + each) for each in range(10)])
            added[0] = number + 10
            kept.clocks.pass_s(1)
            kept.keeper.tick()
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    looks = 0
    while not ended.is_set():
        low = added[0]
        [(rows, distinct)] = query(kept.folder, "SELECT count(*), count(DISTINCT id) FROM records").rows
        assert rows == distinct >= low
        looks += 1
    writer.join(30)
    assert looks > 3
    assert len(kept_ids(kept.folder)) == 3000


def test_a_folder_that_is_taken_away_while_it_is_written_is_made_again(keep: KeepIn) -> None:
    kept = keep()
    kept.keeper.add([record(1)])
    shutil.rmtree(kept.folder)
    kept.seal()
    kept.keeper.add([record(2)])
    assert kept_ids(kept.folder) == ["id-2"]
