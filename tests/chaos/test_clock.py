"""A wall clock that jumps by a day while callers ask."""

import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bundle.making import bundle_affine
from tests.chaos.counts import Report
from tests.chaos.load import HttpLoad, Target
from tests.chaos.questions import affine
from tests.chaos.serving import Serving, serving
from tests.server.running import wait_until

LIBRARIES = ("/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime")
NAME = "libfaketimeMT.so.1"
DAY_S = 86400.0


def make_key(file: Path, name: str, *options: str) -> str:
    """Give the token of a new key."""
    made = subprocess.run(
        [sys.executable, "-m", "ferryman", "keys", "add", name, "--file", str(file), "--json", *options],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    token: str = json.loads(made.stdout)["token"]
    return token


def test_a_wall_clock_that_jumps_a_day_fails_no_request_and_ends_only_what_it_should(
    tmp_path: Path, report: Report
) -> None:
    library = next((Path(folder, NAME) for folder in LIBRARIES if Path(folder, NAME).exists()), None)
    assert library is not None, f"{NAME} is missing: it makes the clock jump (apt-get install faketime)"
    clock, keys, log = tmp_path / "clock", tmp_path / "keys.json", tmp_path / "access.log"
    set_clock(clock, "+0")
    for_ever, for_hours = make_key(keys, "always", "--rate", "100000"), make_key(keys, "today", "--expires", "12h")
    faked = {
        "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
    }  # fmt: skip
    bundle = bundle_affine(tmp_path / "affine")
    steering = make_key(keys, "operator", "--scopes", "admin")
    options = ("--keys", str(keys), "--probe-s", "0.3", "--access-log", str(log))
    with serving([bundle.path], *options, environment=faked) as server:
        target = Target(server.port, headers=f"Authorization: Bearer {for_ever}\r\n")
        with HttpLoad(target, affine()) as http:
            statuses = []
            for jump, day in (("+0", 0), ("+1d", 1), ("-1d", -1), ("+0", 0)):
                seen = len(read_log(log))
                set_clock(clock, jump)
                wait_until(lambda day=day, seen=seen: has_jumped(log, seen, day))
                http.wait_for_answers(100)
                statuses.append(status_with(server, for_hours))
            (version,) = server.admin("GET", "/admin/status", key=steering)[1]["models"]["affine"]["versions"].values()
        entries = read_log(log)
    report.add("the wall clock jumps: now, +1 day, -1 day, now", http.counts)
    assert http.counts.answered == http.counts.sent, http.counts.examples
    assert (version["golden_ok"], version["restarts"]) == (True, 0), "golden samples were asked all the while"
    assert statuses == [200, 401, 200, 200], "a key of 12 hours is over in a day, and only then"
    assert all(0 <= entry["seconds"] < 60 for entry in entries), "no time that a request took is of the wall clock"


def set_clock(clock: Path, jump: str) -> None:
    beside = clock.with_suffix(".new")
    beside.write_text(f"{jump}\n")
    beside.replace(clock)


def read_log(log: Path) -> list[dict[str, Any]]:  # JSON
    text = log.read_text() if log.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def has_jumped(log: Path, seen: int, day: int) -> bool:
    """Tell whether the server's own clock is that many days away, by the times that it logs."""
    now = datetime.datetime.now(datetime.UTC)
    for entry in read_log(log)[seen:]:
        logged = datetime.datetime.fromisoformat(str(entry["time"]))
        if abs((logged - now).total_seconds() - day * DAY_S) < DAY_S / 2:
            return True
    return False


def status_with(server: Serving, token: str) -> int:
    tensor = {"name": "values", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    body = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    return server.ask("POST", "/v2/models/affine/infer", body, headers)[0]
