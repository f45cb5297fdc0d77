import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ferryman.cli.main import main
from ferryman.client.admin import Admin
from tests.server.running import Running, running, wait_until
from tests.server.watch.making import Row, bundle_watched, make_rows
from tests.server.watch.test_watch import ask, find_watch, metric

DRIFTED = {"rules": {"drift": {"for_s": 0.0}}}
UNDO = {"undo": {"do": "roll-back", "on": ["drift"]}}
PLAN = {"shadow": 0.0, "steps": [0.5], "min_requests": 100_000, "step_s": 600.0}


@contextmanager
def served(folder: Path, versions: Sequence[str], actions: dict[str, Any]) -> Iterator[Running]:
    """Serve a repository whose versions differ in what nobody is asked about; all is looked into."""
    for version in versions:
        path = folder / "models" / "table" / version
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            alerts = {**DRIFTED, "at_least": 10 + int(version)}
            bundle_watched(path, monitor={"cost": 1.0, "alerts": alerts, "actions": actions})
    with running([folder / "models"], admin_port=0, monitor=folder / "kept", state=folder / "state") as server:
        wait_until(lambda: ask(server, "/v1/monitor")[0] == 200)
        yield server


def send(server: Running, rows: Sequence[Row]) -> None:
    for start in range(0, len(rows), 10):
        status, answer = server.infer("table", {"instances": rows[start : start + 10]})
        assert status == 200, answer


def drift(server: Running) -> None:
    send(server, make_rows(800, seed=3, shift=2.0))


def actions(server: Running) -> list[dict[str, Any]]:
    status, told = ask(server, "/v1/monitor/actions")
    listed: list[dict[str, Any]] = told["actions"] if status == 200 else []
    return listed


def ended(server: Running, count: int = 1) -> bool:
    return len([each for each in actions(server) if each["outcome"]]) >= count


def active(server: Running) -> str:
    served_now: str = ask(server, "/admin/status")[1]["models"]["table"]["active"]
    return served_now


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "kept" / "diary" / "diary.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


def test_an_alert_brings_the_version_from_before_back_once_and_says_why(tmp_path: Path) -> None:
    with served(tmp_path, ["1", "2"], UNDO) as server:
        drift(server)
        wait_until(lambda: ended(server))
        [action] = actions(server)
        assert (action["do"], action["version"], action["outcome"]) == ("roll-back", "2", "done"), action
        assert action["said"] == "version 1 answers instead of 2"
        assert (action["cause"]["rule"], action["cause"]["summary"]) == ("drift", "table 2: drift")
        assert active(server) == "1"
        assert ask(server, "/v1/monitor/actions")[1]["rolled_back"] == [action["digest"]]
        wait_until(lambda: metric(server, "ferryman_actions_total") == 1.0)
        drift(server)  # version 1 drifts, too: nothing swings back and forth
        wait_until(lambda: any(
            (each["version"], each["state"]) == ("1", "firing") for each in ask(server, "/v1/monitor/alerts")[1]
        ))  # fmt: skip
        wait_until(lambda: "is not taken: the last roll-back was less than 86400 s ago" in server.log())
        assert len(actions(server)) == 1
        assert [event["outcome"] for event in events(tmp_path, "action")] == ["", "done"]
    with served(tmp_path, ["1", "2"], UNDO) as server:  # also after a restart the better one serves
        assert active(server) == "1"
        assert len(actions(server)) == 1


def test_a_rollout_that_an_alert_speaks_against_ends_or_stays_where_it_is(tmp_path: Path) -> None:
    for do, phase, is_paused in (("roll-back", "rolled back", False), ("freeze", "canary", True)):
        acting = {"careful": {"do": do, "on": ["drift"]}}
        with served(tmp_path / do, ["1", "2"], acting) as server:
            admin = Admin(server.admin_url)
            admin.activate("table", "1")
            admin.start_rollout("table", "2", PLAN)
            wait_until(lambda admin=admin: admin.rollout("table")["phase"] == "canary")
            while True:  # half of the requests go to the candidate, whose own drift is to act
                drift(server)
                if any(each["version"] == "2" for each in actions(server)) or do == "freeze":
                    break
            wait_until(lambda server=server: ended(server))
            shown = admin.rollout("table")
            if do == "freeze":
                assert (shown["phase"], shown["is_paused"]) == (phase, is_paused)
                assert shown["events"][-1]["reason"].startswith("alert: table ")
                server.process.kill()
                server.process.wait(10)
    with served(tmp_path / "freeze", ["1", "2"], {}) as server:  # paused over a kill -9
        admin = Admin(server.admin_url)
        wait_until(lambda: admin.rollout("table")["phase"] == "canary")
        assert admin.rollout("table")["is_paused"]
        assert admin.move_rollout("table", "resume")["is_paused"] is False


def test_a_retraining_outlives_its_watch_and_its_server_and_runs_once(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    program = f"import time, pathlib; pathlib.Path({str(mark)!r}).open('a').write('x'); time.sleep(4); print('learnt')"
    learn = {"learn": {"do": "retrain", "on": ["drift"], "command": [sys.executable, "-c", program]}}
    with served(tmp_path, ["1"], learn) as server:
        drift(server)
        wait_until(mark.exists)
        os.kill(find_watch(server), signal.SIGKILL)
        wait_until(lambda: len(actions(server)) == 1)
        server.process.kill()
        server.process.wait(10)
    with served(tmp_path, ["1"], learn) as server:
        wait_until(lambda: ended(server))
        [action] = actions(server)
        assert (action["outcome"], action["cause"]["rule"]) == ("done", "drift"), action
        assert mark.read_text() == "x"
        output = tmp_path / "kept" / "actions" / "retrain" / action["id"] / "output.log"
        assert "learnt" in output.read_text().splitlines()
        assert [event["outcome"] for event in events(tmp_path, "action")] == ["", "done"]


def test_a_training_that_fails_and_a_model_that_is_not_served_are_refused_before_anything_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(tmp_path, ["1"], {}) as server:
        for name, code, said in (
            ("table", 1, "the training ended with exit code 7"), ("other", 2, "the server has no model 'other'"),
        ):  # fmt: skip
            project = tmp_path / name
            project.mkdir()
            columns = '["a", "b"]'
            (project / "ferryman.toml").write_text(
                f'[model]\nname = "{name}"\nsource = "model.onnx"\n[task]\nkind = "tabular"\ncolumns = {columns}\n'
            )
            train = f'{sys.executable} -c "raise SystemExit(7)"'
            words = ["retrain", str(project), "--train", train, "--repository", str(tmp_path / "models")]
            assert main([*words, "--admin", server.admin_url]) == code
            assert said in capsys.readouterr().err
        assert not (tmp_path / "models" / "table" / "2").exists()
        assert active(server) == "1"
