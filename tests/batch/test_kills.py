"""Whatever is killed, and whenever: the answers are those of an undisturbed run, byte for byte."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ferryman import api
from ferryman.core.bundle import Bundle
from ferryman.core.errors import FerrymanError, UserError
from tests.batch.making import Row, content, read_folder, write_parquet
from tests.server.misbehaving import ANSWER, HANG, RAISE, REFUSE, SEGFAULT, bundle_misbehaving, with_plugin

CHUNK = 60
RUN = (
    "import sys; from pathlib import Path; from ferryman.batch.run import plan_work, score\n"
    "from ferryman.batch.settings import ScoreSettings\n"
    f"chosen = ScoreSettings(chunk={CHUNK}, processes=2)\n"
    "score(plan_work(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), chosen), chosen)\n"
)


def start(bundle: Bundle, given: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", RUN, str(bundle.path), str(given), str(out)], start_new_session=True)


def entries(out: Path) -> int:
    return len(list(out.glob(".journal/0*.json")))


def kill_after(process: subprocess.Popen[bytes], out: Path, chunks: int, more_s: float) -> bool:
    """Kill a run, its workers not, once it has done some chunks more; tells whether it was still at work."""
    goal, deadline_s = entries(out) + chunks, time.monotonic() + 60
    while process.poll() is None and entries(out) < goal and time.monotonic() < deadline_s:
        time.sleep(0.001)
    time.sleep(more_s)
    was_alive = process.poll() is None
    process.kill()
    process.wait()
    return was_alive


def kill_and_compare(tmp_path: Path, bundle: Bundle, rows: list[Row], kills: int) -> None:
    bad = [{**row, "nswprice": float("nan") if at % 501 == 0 else row["nswprice"]} for at, row in enumerate(rows)]
    given = write_parquet(tmp_path / "in.parquet", bad)
    api.score(bundle.path, given, tmp_path / "calm", chunk=CHUNK, processes=1)
    draw = random.Random(7)
    killed = 0
    out = tmp_path / "killed"
    for _ in range(kills):
        killed += kill_after(start(bundle, given, out), out, draw.randrange(4), draw.random() * 0.05)
    assert killed == kills
    assert 0 < entries(out) < len(rows) // CHUNK
    assert start(bundle, given, out).wait(120) == 0
    assert content(out) == content(tmp_path / "calm")
    assert len(content(out)) == len(rows) // CHUNK + 2
    assert not (out / ".journal" / "unfinished").exists()


def test_a_run_that_is_killed_goes_on_where_it_was(tmp_path: Path, bundle: Bundle, elec: list[Row]) -> None:
    kill_and_compare(tmp_path, bundle, elec[:900], 2)


@pytest.mark.slow
def test_twenty_kills_change_no_byte(tmp_path: Path, bundle: Bundle, elec: list[Row]) -> None:
    kill_and_compare(tmp_path, bundle, elec, 20)


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        return [int(word) for word in children.split()]
    return []


def test_a_worker_that_is_killed_by_chance_changes_no_byte(tmp_path: Path, bundle: Bundle, elec: list[Row]) -> None:
    given = write_parquet(tmp_path / "in.parquet", elec[:900])
    out = tmp_path / "out"
    process = start(bundle, given, out)
    for done in (2, 6):
        while entries(out) < done and process.poll() is None:
            time.sleep(0.001)
        with contextlib.suppress(ProcessLookupError):
            os.kill(workers_of(process)[0], signal.SIGKILL)
    assert process.wait(60) == 0
    api.score(bundle.path, given, tmp_path / "calm", chunk=CHUNK, processes=1)
    assert content(out) == content(tmp_path / "calm")


def test_a_part_or_an_entry_that_is_damaged_is_made_again(tmp_path: Path, bundle: Bundle, elec: list[Row]) -> None:
    given = write_parquet(tmp_path / "in.parquet", elec[:300])
    api.score(bundle.path, given, tmp_path / "out", chunk=CHUNK, processes=1)
    whole = content(tmp_path / "out")
    part = tmp_path / "out" / "part-000001.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    (tmp_path / "out" / ".journal" / "000003.json").write_text('{"start": 180,')
    scored = api.score(bundle.path, given, tmp_path / "out", chunk=CHUNK, processes=1)
    assert scored.resumed_rows == 180
    assert content(tmp_path / "out") == whole


def test_a_second_writer_is_refused(tmp_path: Path, bundle: Bundle, elec: list[Row]) -> None:
    given = write_parquet(tmp_path / "in.parquet", elec)
    out = tmp_path / "out"
    process = start(bundle, given, out)
    try:
        while not entries(out) and process.poll() is None:
            time.sleep(0.001)
        with pytest.raises(UserError, match="another process is writing"):
            api.score(bundle.path, given, out, chunk=CHUNK)
    finally:
        process.kill()
        process.wait()


def orders(path: Path, codes: dict[int, tuple[int, float]], count: int) -> Path:
    """Write rows of which all but some are ordinary."""
    rows = [{"id": f"r{at}", "order": list(codes.get(at, (ANSWER, at)))} for at in range(count)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_rows_that_kill_their_worker_are_found_and_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_plugin(monkeypatch)
    bundle = bundle_misbehaving(tmp_path / "bundle")
    given = orders(tmp_path / "in.jsonl", {5: (SEGFAULT, 0), 17: (RAISE, 0), 18: (REFUSE, 0)}, 20)
    scored = api.score(bundle.path, given, tmp_path / "out", chunk=8, processes=1)
    refused = [json.loads(line) for line in (tmp_path / "out" / "refused.jsonl").read_text().splitlines()]
    assert [(row["keys"]["id"], row["why"]) for row in refused] == [
        ("r5", "killed"),
        ("r17", "failed"),
        ("r18", "refused"),
    ]
    assert "SIGSEGV" in refused[0]["error"]
    assert "RuntimeError" in refused[1]["error"]
    assert scored.figures["refused"] == {"refused": 1, "failed": 1, "killed": 1}
    assert scored.deaths >= 3
    answered = read_folder(tmp_path / "out")
    assert [row["id"] for row in answered] == [f"r{at}" for at in range(20) if at not in (5, 17, 18)]
    assert json.loads(answered[3]["outputs"])["answer"]["data"] == [[float(ANSWER) + 1, 4.0]]


@pytest.mark.slow
def test_a_row_that_hangs_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_plugin(monkeypatch)
    bundle = bundle_misbehaving(tmp_path / "bundle")
    given = orders(tmp_path / "in.jsonl", {1: (HANG, 0)}, 3)
    scored = api.score(bundle.path, given, tmp_path / "out", processes=1, patience_s=3.0)
    assert scored.figures["refused"] == {"refused": 0, "failed": 0, "killed": 1}
    assert "said nothing for 3 s" in (tmp_path / "out" / "refused.jsonl").read_text()


def test_a_model_that_does_not_load_or_answers_wrong_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_plugin(monkeypatch)
    mark = tmp_path / "mark"
    mark.touch()
    given = orders(tmp_path / "in.jsonl", {}, 3)
    crashing = bundle_misbehaving(tmp_path / "crashing", crash_file=str(mark))
    with pytest.raises(FerrymanError, match="SIGSEGV while it loaded the bundle"):
        api.score(crashing.path, given, tmp_path / "out", processes=1)
    wrong = bundle_misbehaving(tmp_path / "wrong", wrong_file=str(mark))
    with pytest.raises(FerrymanError, match=r"golden sample .* is answered otherwise") as told:
        api.score(wrong.path, given, tmp_path / "other", processes=1)
    assert told.value.exit_code == 3
