import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any  # a line's JSON

import pytest

from ferryman.core.errors import UserError
from ferryman.server.data.signals.access_log import MOST_REFUSALS, AccessLog, Line

DEADLINE_S = 10.0


def line(path: str = "/v2/models/street/infer", *, request_id: str = "r-1", caller: str = "key:web") -> Line:
    return (
        1790000000.25, "POST", path, 200, 0.00212345, 431, 210, "street", "0123456789ab", caller, "10.0.0.12",
        request_id, "4bf92f3577b34da6a3ce929d0e0e4736",
    )  # fmt: skip


async def until(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < end_s, "it never came true"
        await asyncio.sleep(0.01)


def written(path: Path) -> list[dict[str, Any]]:  # JSON
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_a_request_leaves_one_line_of_json_while_the_server_runs(tmp_path: Path) -> None:
    path = tmp_path / "access.log"

    async def serve() -> None:
        log = AccessLog(path)
        log.start(asyncio.get_running_loop())
        log.note(line())
        await until(lambda: path.stat().st_size > 0)
        log.close()

    asyncio.run(serve())
    assert written(path) == [
        {
            "time": "2026-09-21T14:13:20.250000Z",
            "method": "POST",
            "path": "/v2/models/street/infer",
            "status": 200,
            "seconds": 0.002123,
            "bytes_in": 431,
            "bytes_out": 210,
            "model": "street",
            "version": "0123456789ab",
            "caller": "key:web",
            "peer": "10.0.0.12",
            "request_id": "r-1",
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        }
    ]
    assert datetime.fromisoformat(written(path)[0]["time"]) == datetime.fromtimestamp(1790000000.25, UTC)


def test_thousands_of_lines_arrive_whole_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "access.log"

    async def serve() -> None:
        log = AccessLog(path)
        log.start(asyncio.get_running_loop())
        for number in range(5000):
            log.note(line(request_id=str(number)))
        await until(lambda: path.read_bytes().count(b"\n") == 5000)
        log.close()
        assert log.lost == 0

    asyncio.run(serve())
    assert [one["request_id"] for one in written(path)] == [str(number) for number in range(5000)]


@pytest.mark.parametrize(
    "nasty",
    [
        'a"b',
        "a\\b",
        "a\nb",
        "a\x1b[2Jb",
        "a\x7fb",
        "a\x85b",
        "a\u202eb",
        "a\ud800b",
        "gr\u00fc\u00df",
        "\u2028",
        'x","status":500',
    ],
)
def test_what_a_client_sends_stays_inside_its_field(tmp_path: Path, nasty: str) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(path)
    log.note(line(f"/{nasty}", request_id=nasty, caller=nasty))
    log.close()
    text = path.read_text()
    assert text.count("\n") == 1 and text[:-1].isprintable()
    (one,) = written(path)
    assert one["status"] == 200
    shown = nasty if nasty.isprintable() else nasty.encode("unicode_escape").decode()
    assert (one["path"], one["request_id"], one["caller"]) == (f"/{shown}", shown, shown)


def test_a_field_without_end_is_cut(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "access.log")
    log.note(line("/" + "a" * 100_000))
    log.close()
    assert (tmp_path / "access.log").stat().st_size < 2000


def test_a_full_queue_drops_lines_and_counts_them(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "access.log", capacity=10)
    for _ in range(25):
        log.note(line())
    log.close()
    assert log.lost == 15
    assert len(written(tmp_path / "access.log")) == 10


def test_a_flood_of_refusals_is_counted_and_not_written(tmp_path: Path) -> None:
    now_s = [50.0]
    log = AccessLog(tmp_path / "access.log", clock=lambda: now_s[0])
    for _ in range(10_000):
        log.refuse(("", "", 400, "10.0.0.12", "this is not HTTP/1.1"))
    now_s[0] += 2.5
    for _ in range(10):
        log.refuse(("POST", "/a", 413, "10.0.0.12", 'a "body"'))
    log.close()
    lines = written(tmp_path / "access.log")
    assert len(lines) == MOST_REFUSALS + 2
    assert log.suppressed == 10_000 - MOST_REFUSALS + 8
    assert log.lost == 0
    assert {key: lines[0][key] for key in ("status", "peer", "reason")} == {
        "status": 400, "peer": "10.0.0.12", "reason": "this is not HTTP/1.1",
    }  # fmt: skip
    assert (lines[-2]["path"], lines[-2]["reason"]) == ("/a", 'a "body"')
    assert lines[-2]["suppressed"] == 10_000 - MOST_REFUSALS
    assert "suppressed" not in lines[-1]


def test_a_full_disk_loses_lines_that_are_counted_and_nothing_is_raised() -> None:
    async def serve() -> None:
        log = AccessLog("/dev/full")
        log.start(asyncio.get_running_loop())
        for _ in range(300):
            log.note(line())
        await until(lambda: log.lost == 300)
        log.close()

    asyncio.run(serve())


def test_a_reader_that_stopped_holds_nobody_up(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    async def serve() -> float:
        log = AccessLog(pipe, capacity=1000)
        log.start(asyncio.get_running_loop())
        slowest_s = 0.0
        sent = 0
        while log.lost == 0:  # the pipe is full, then the chunks, then the queue
            started_s = time.thread_time()
            for _ in range(100):
                log.note(line())
            slowest_s = max(slowest_s, time.thread_time() - started_s)
            sent += 100
            await asyncio.sleep(0)
            assert sent < 1_000_000
        log.close(timeout_s=0.1)
        return slowest_s

    assert asyncio.run(serve()) < 0.1
    os.close(reader)  # so that the thread that still writes ends, with an error


def test_a_file_that_was_moved_away_is_left_for_a_new_one(tmp_path: Path) -> None:
    path, moved = tmp_path / "access.log", tmp_path / "access.log.1"

    async def serve() -> None:
        log = AccessLog(path)
        log.start(asyncio.get_running_loop())
        log.note(line(request_id="old"))
        await until(lambda: path.stat().st_size > 0)
        path.rename(moved)
        log.reopen()
        log.note(line(request_id="new"))
        await until(lambda: path.exists() and path.stat().st_size > 0)
        log.close()

    asyncio.run(serve())
    assert [one["request_id"] for one in written(moved)] == ["old"]
    assert [one["request_id"] for one in written(path)] == ["new"]


def test_a_file_that_cant_be_opened_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't write the access log"):
        AccessLog(tmp_path / "nowhere" / "access.log")


def test_a_dash_means_stderr() -> None:
    program = (
        "from ferryman.server.data.signals.access_log import AccessLog\n"
        "from tests.server.signals.test_access_log import line\n"
        "log = AccessLog('-'); log.note(line()); log.close()"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert told.stdout == b""
    assert json.loads(told.stderr)["status"] == 200


def test_closing_ends_the_thread(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "access.log")
    log.note(line())
    log.close()
    assert not any(thread.name == "access-log" and thread.is_alive() for thread in threading.enumerate())
