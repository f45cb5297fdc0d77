import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from ferryman.monitor.report.diary import read_events
from ferryman.monitor.store.payloads import payloads
from ferryman.monitor.store.query import counts, latest
from tests.server.running import Running, read_answer, running, wait_until
from tests.server.watch.making import Row, bundle_watched, make_rows

COST = {"monitor": {"cost": 1.0}}  # everything is looked into, however busy the machine is


@contextmanager
def watched(folder: Path, **settings: Any) -> Iterator[Running]:
    bundle = bundle_watched(folder / "bundle", **COST)
    with running([bundle.path], admin_port=0, **settings) as server:
        wait_until(lambda: ask(server, "/v1/monitor")[0] == 200)
        yield server


def ask(server: Running, path: str) -> tuple[int, Any]:
    connection = HTTPConnection(server.admin_url.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", path)
        return read_answer(connection.getresponse())[:2]
    finally:
        connection.close()


def send(server: Running, rows: Sequence[Row], *, each: int = 10) -> None:
    for start in range(0, len(rows), each):
        status, answer = server.infer("table", {"instances": rows[start : start + each]})
        assert status == 200, answer


def status_of(server: Running) -> dict[str, Any]:
    status, told = ask(server, "/v1/monitor")
    assert status == 200, told
    found: dict[str, Any] = told
    return found


def metric(server: Running, name: str) -> float:
    lines = server.ask("GET", "/metrics")[1].decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def requests_in(folder: Path) -> int:
    """Count the requests of which there is a record."""
    return sum(int(each["requests"]) for each in counts(folder).as_dicts())


def find_watch(server: Running) -> int:
    """Give the process id of the watch; 0 where there is none."""
    waiting = [server.process.pid]
    while waiting:
        pid = waiting.pop()
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() == "ferryman-watch":
                return pid
            waiting += [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            continue
    return 0


def test_what_comes_as_it_was_is_no_drift_and_what_comes_otherwise_is(tmp_path: Path) -> None:
    with watched(tmp_path) as server:
        send(server, make_rows(1500, seed=2))
        wait_until(lambda: ask(server, "/v1/monitor/drift")[1][0]["rows"] >= 1500)
        [drift] = ask(server, "/v1/monitor/drift")[1]
        assert (drift["model"], drift["drifted"], drift["rows"]) == ("table", False, 1500)
        send(server, make_rows(800, seed=3, shift=1.5))
        wait_until(lambda: ask(server, "/v1/monitor/drift")[1][0]["drifted"])
        [drift] = ask(server, "/v1/monitor/drift")[1]
        assert drift["moved"][0]["signal"] == f"cell.{next(iter(make_rows(1, seed=0)[0]))}"
        wait_until(lambda: metric(server, "ferryman_drifted") == 1)
        assert metric(server, "ferryman_drift_score") > metric(server, "ferryman_drift_threshold") > 0
        alerts = ask(server, "/v1/monitor/alerts")[1]
        assert [(alert["rule"], alert["state"]) for alert in alerts] == [("drift", "firing")]


def test_every_answered_request_leaves_a_record_with_its_signals(tmp_path: Path) -> None:
    with watched(tmp_path, monitor=tmp_path / "kept") as server:
        for place, row in enumerate(make_rows(30, seed=2)):
            body = json.dumps({"instances": [row]}).encode()
            told = {"Content-Type": "application/json", "X-Request-Id": f"r{place}"}
            assert server.ask("POST", "/v2/models/table/infer", body, told)[0] == 200
        assert server.infer("table", {"instances": [{"width": "wide"}]})[0] == 400
        wait_until(lambda: status_of(server)["records"] >= 31)
        kept = latest(tmp_path / "kept" / "records", 100).as_dicts()
        assert {f"r{place}" for place in range(30)} <= {record["id"] for record in kept}
        assert {record["outcome"] for record in kept} == {"ok", "invalid"}
        one = next(record for record in kept if record["id"] == "r7")
        row = make_rows(30, seed=2)[7]
        assert one["s_cell.width"] == pytest.approx(row["width"])
        assert one["total_s"] >= one["infer_s"] > 0
        server.stop()
    assert requests_in(tmp_path / "kept" / "records") == 31
    assert payloads(tmp_path / "kept" / "records") == []  # nobody asked for them


def test_serving_goes_on_when_the_watch_is_killed_and_every_record_is_accounted_for(tmp_path: Path) -> None:
    with watched(tmp_path, monitor=tmp_path / "kept") as server:
        sent = 0
        for kill in range(3):
            send(server, make_rows(100, seed=kill), each=1)
            sent += 100
            os.kill(find_watch(server), signal.SIGKILL)
            send(server, make_rows(100, seed=kill + 10), each=1)
            sent += 100
            wait_until(lambda: find_watch(server) != 0)
        kept = tmp_path / "kept" / "records"
        wait_until(lambda: requests_in(kept) + metric(server, "ferryman_records_lost_total") >= sent)
        server.stop()
    assert sent - 3 * 100 <= requests_in(kept) <= sent  # at most what was being read at each kill


def test_without_a_watch_nothing_is_looked_into(tmp_path: Path) -> None:
    bundle = bundle_watched(tmp_path / "bundle", **COST)
    with running([bundle.path], admin_port=0, watches=False) as server:
        send(server, make_rows(20, seed=2))
        assert ask(server, "/v1/monitor")[0] == 404
        assert find_watch(server) == 0


def test_drift_is_remembered_over_a_restart(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with watched(tmp_path, monitor=kept) as server:
        send(server, make_rows(800, seed=3, shift=1.5))
        wait_until(lambda: [alert["state"] for alert in ask(server, "/v1/monitor/alerts")[1]] == ["firing"])
        server.stop()
    with watched(tmp_path / "again", monitor=kept) as server:
        [drift] = ask(server, "/v1/monitor/drift")[1]
        assert (drift["drifted"], drift["rows"]) == (True, 800)
        wait_until(lambda: [alert["state"] for alert in ask(server, "/v1/monitor/alerts")[1]] == ["firing"])
        time.sleep(2.5)  # turns of the watch, in which it would be told again
        server.stop()
    alerts = [(event["rule"], event["state"]) for event in read_events(kept / "diary") if event["kind"] == "alert"]
    assert alerts == [("drift", "firing")]


def test_an_alert_says_that_a_model_is_down_though_nothing_of_it_answers(tmp_path: Path) -> None:
    rules = {"monitor": {"cost": 1.0, "alerts": {"rules": {"down": {"for_s": 1.0}}}}}
    bundle = bundle_watched(tmp_path / "bundle", **rules)
    with running([bundle.path], admin_port=0) as server:
        wait_until(lambda: ask(server, "/v1/monitor")[0] == 200)
        for file in sorted(bundle.path.rglob("*.onnx")):
            file.write_bytes(b"spoilt")

        def is_told() -> bool:
            for pid in workers_of(server):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            found = ask(server, "/v1/monitor/alerts")[1]
            return any((alert["rule"], alert["state"]) == ("down", "firing") for alert in found)

        wait_until(is_told)
        assert metric(server, "ferryman_alert_state") >= 2


def workers_of(server: Running) -> list[int]:
    models = ask(server, "/admin/status")[1]["models"]
    return [
        worker["pid"]
        for model in models.values()
        for version in model["versions"].values()
        for worker in version.get("workers", ())
    ]
