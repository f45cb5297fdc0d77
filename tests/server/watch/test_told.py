"""What a real server and its diary tell: the live figures, their description, the view, and a report afterwards."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from ferryman import api
from ferryman.client.admin import Admin
from tests.ports import free_port
from tests.server.running import Running, running, wait_until
from tests.server.watch.making import bundle_watched, make_rows
from tests.server.watch.test_watch import COST, ask, send, status_of

pytest.importorskip("duckdb")


class Screen:
    """Run `ferryman monitor` on a terminal of its own."""

    def __init__(self, url: str) -> None:
        ours, theirs = pty.openpty()
        words = [sys.executable, "-m", "ferryman", "monitor", url]
        environment = {**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
        self.process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        self._ours = ours
        self.text = ""

    def read_until(self, *told: str, timeout_s: float = 30) -> None:
        """Read on until one and the same frame has all of these."""
        deadline = time.monotonic() + timeout_s
        while not all(one in self.text.rpartition("\x1b[H")[2] for one in told):
            assert time.monotonic() < deadline, self.text[-2000:]
            self._read(0.2)

    def interrupt(self) -> int:
        """Press Ctrl-C, read the rest, and give the exit code."""
        self.process.send_signal(signal.SIGINT)
        while self.process.poll() is None:
            self._read(0.1)
        self._read(0.1)
        os.close(self._ours)
        return self.process.returncode

    def _read(self, timeout_s: float) -> None:
        if select.select([self._ours], [], [], timeout_s)[0]:
            try:
                self.text += os.read(self._ours, 65536).decode(errors="replace")
            except OSError:  # its other end is closed
                return


@contextmanager
def served(folder: Path, kept: Path, admin_port: int = 0) -> Iterator[Running]:
    bundle = bundle_watched(folder / "bundle", **COST)
    with running([bundle.path], admin_port=admin_port, monitor=kept) as server:
        wait_until(lambda: ask(server, "/v1/monitor")[0] == 200)
        yield server


def check_description(server: Running) -> None:
    """Hold each answer against what the description says of it."""
    described = ask(server, "/v1/monitor/openapi.json")[1]
    for path, methods in described["paths"].items():
        status, answer = ask(server, path)
        schema = methods["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert status == 200
        jsonschema_rs.validator_for({**schema, "components": described["components"]}).validate(answer)


def test_a_server_is_shown_live_goes_away_comes_back_and_is_told_of_in_a_report(tmp_path: Path) -> None:
    kept, port = tmp_path / "kept", free_port()
    url = f"http://127.0.0.1:{port}"
    screen = Screen(url)
    screen.read_until("nobody listens")
    with served(tmp_path, kept, port) as server:
        screen.read_until("ready", "table", "requests/s")
        send(server, make_rows(300, seed=2), each=1)
        assert server.infer("table", {"instances": [{"width": "wide"}]})[0] == 400
        send(server, make_rows(900, seed=3, shift=2.5))
        wait_until(lambda: ask(server, "/v1/monitor/drift")[1][0]["drifted"])
        wait_until(lambda: status_of(server)["records"] >= 391)
        screen.read_until("drift: the strongest signals", "of an alarm  cell.", "firing", "watch: 391 records")
        live = Admin(url).live()
        [one] = live["versions"]
        assert one["outcomes"] == {"ok": 390, "invalid": 1} | dict.fromkeys(
            one["outcomes"].keys() - {"ok", "invalid"}, 0
        )
        assert sum(one["latency"]["counts"]) >= 391
        assert (one["model"], one["active"], one["ready"]) == ("table", True, True)
        assert min(one["worker_bytes"]) > 10_000_000
        check_description(server)
        server.stop()
        screen.read_until("nobody listens", "figures of", "table")
    with served(tmp_path / "again", kept, port) as server:
        screen.read_until("ready", "table", "watch: ")
        server.stop()
    assert screen.interrupt() == 0
    assert screen.text.endswith("\x1b[?25h\x1b[?1049l")
    assert "Traceback" not in screen.text
    _check_report(kept)


def _check_report(kept: Path) -> None:
    made = api.report(kept, timedelta(hours=1))
    [one] = made.versions
    assert one.requests == {"ok": 390, "invalid": 1}
    assert (one.records, one.looked_into, one.items) == (391, 390, 1200)
    assert [low < (high or 0) for low, high in one.served] == [True, True]
    assert one.before == "baseline"
    assert one.signals[0].name.startswith("cell.")
    assert one.signals[0].has_moved
    assert [change["change"] for change in one.drift] == ["began"]
    assert [(alert["rule"], alert["state"]) for alert in made.alerts] == [("drift", "firing")]
    assert "Drift began: cell." in api.report_html(made)


def test_one_look_as_json_is_one_document(tmp_path: Path) -> None:
    with served(tmp_path, tmp_path / "kept") as server:
        words = [sys.executable, "-m", "ferryman", "monitor", server.admin_url, "--once", "--json"]
        told: dict[str, Any] = json.loads(subprocess.run(words, capture_output=True, check=True, timeout=60).stdout)
        assert told["versions"][0]["requests_per_s"] == 0.0
        assert told["watch"]["watching"] is True
