import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ferryman.core.acting import JobSection
from ferryman.monitor.actions.action import Action, Cause
from ferryman.monitor.actions.job import run_job
from ferryman.monitor.actions.retraining import OUTPUT, Retraining
from ferryman.monitor.notify.receiver import Undelivered
from tests.monitor.actions.making import NOW_S, a_section

ACTION = Action(
    "a1", "learn", "retrain", "street", "2", "d2", Cause("c", "performance", 1, "street 2: it fell", 0.1, 0.01), NOW_S
)


def end_of(run: Retraining, *, within_s: float = 20.0) -> tuple[str, str]:
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s:
        if (end := run.look(time.time())) is not None:
            return end
        time.sleep(0.02)
    raise AssertionError("it never ended")


def begun(folder: Path, *program: str, **settings: Any) -> Retraining:
    run = Retraining(folder / "kept" / "actions" / "retrain" / "a1")
    run.begin(ACTION, a_section("retrain", **({"command": program} if program else {}), **settings))
    return run


def wait_until_begun(run: Retraining) -> None:
    until_s = time.monotonic() + 20
    while not run.is_begun:
        assert time.monotonic() < until_s
        time.sleep(0.02)


def test_a_command_hears_why_and_its_output_is_kept(tmp_path: Path) -> None:
    told = "import os; print({k[16:]: v for k, v in os.environ.items() if k.startswith('FERRYMAN_ACTION_')})"
    run = begun(tmp_path, sys.executable, "-c", told)
    outcome, said = end_of(run)
    assert (outcome, str(run.folder / OUTPUT) in said) == ("done", True)
    heard = eval((run.folder / OUTPUT).read_text())
    assert (heard["MODEL"], heard["VERSION"], heard["RULE"], heard["VALUE"]) == ("street", "2", "performance", "0.1")
    assert (heard["CAUSE"], heard["MONITOR"]) == ("street 2: it fell", str(tmp_path / "kept"))


def test_a_command_that_fails_says_its_last_line(tmp_path: Path) -> None:
    outcome, said = end_of(begun(tmp_path, sys.executable, "-c", "print('no data'); raise SystemExit(4)"))
    assert (outcome, "ended with exit code 4: no data" in said) == ("failed", True), said


def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = "import subprocess as s; p = s.Popen(['sleep', '600']); "
    program += f"open({str(pid_file)!r}, 'w').write(str(p.pid)); p.wait()"
    outcome, said = end_of(begun(tmp_path, sys.executable, "-c", program, timeout_s=2.0))
    assert (outcome, "took longer than 2 s" in said) == ("failed", True), said
    until_s = time.monotonic() + 10
    while (
        Path(f"/proc/{pid_file.read_text()}/cmdline").exists()
        and b"sleep" in Path(f"/proc/{pid_file.read_text()}/cmdline").read_bytes()
    ):
        assert time.monotonic() < until_s
        time.sleep(0.02)


def test_a_command_that_prints_without_end_fills_no_disk(tmp_path: Path) -> None:
    run = begun(tmp_path, sys.executable, "-c", "for _ in range(300): print('x' * 100_000)")
    assert end_of(run)[0] == "done"
    assert (run.folder / OUTPUT).stat().st_size < 10_100_000


def test_a_program_that_is_not_there_is_a_failure_with_its_name(tmp_path: Path) -> None:
    assert end_of(begun(tmp_path, "no-such-program")) == (
        "failed", "no-such-program can't be started: No such file or directory",
    )  # fmt: skip


def test_another_watch_finds_the_end_and_starts_no_second_one(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    program = f"import time; open({str(mark)!r}, 'a').write('x'); time.sleep(1)"
    first = begun(tmp_path, sys.executable, "-c", program)
    wait_until_begun(first)
    later = begun(tmp_path, sys.executable, "-c", program)  # a watch that was killed in between, and began anew
    assert end_of(later)[0] == end_of(first)[0] == "done"
    assert mark.read_text() == "x"


def test_a_retraining_that_was_killed_is_a_failure_and_leaves_nothing_running(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    run = begun(tmp_path, sys.executable, "-c", program)
    until_s = time.monotonic() + 20
    while not pid_file.exists() or not pid_file.read_text():
        assert time.monotonic() < until_s
        time.sleep(0.02)
    assert run.keeper is not None
    os.kill(run.keeper.pid, signal.SIGKILL)
    outcome, said = end_of(run)
    assert (outcome, said.startswith("it was killed")) == ("failed", True)
    while Path(f"/proc/{pid_file.read_text()}/stat").exists():
        state = Path(f"/proc/{pid_file.read_text()}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            break
        assert time.monotonic() < until_s
        time.sleep(0.02)


class Answers:
    """Answer requests with what is planned, one after another, and keep what was asked."""

    def __init__(self, *planned: tuple[int, Any]) -> None:
        self.planned, self.asked = list(planned), list[tuple[str, str, Any, str]]()


@contextmanager
def answering(answers: Answers) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            told = json.loads(body) if body else None
            answers.asked.append((self.command, self.path, told, self.headers.get("Authorization", "")))
            status, answer = answers.planned.pop(0) if len(answers.planned) > 1 else answers.planned[0]
            payload = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = do_DELETE = do_any

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_receiver_that_is_down_is_told_again_with_the_same_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINER", "s3cret")
    answers = Answers((503, {}), (200, {}))
    with answering(answers) as url:
        run = begun(tmp_path, url=url, token="env:TRAINER")
        assert end_of(run)[0] == "done"
    (first, second) = answers.asked
    assert first == second
    assert (first[2]["type"], first[2]["id"], first[3]) == ("ferryman.retrain", "a1", "Bearer s3cret")
    assert first[2]["data"]["cause"]["summary"] == "street 2: it fell"
    assert "s3cret" not in "".join(path.read_text() for path in run.folder.iterdir())


def test_a_receiver_that_stays_away_is_a_failure_that_says_so(tmp_path: Path) -> None:
    outcome, said = end_of(begun(tmp_path, url="http://127.0.0.1:9/", timeout_s=2.0))
    assert (outcome, "127.0.0.1 can't be reached" in said) == ("failed", True), said


def a_job(tmp_path: Path, url: str, *, timeout_s: float = 20.0) -> str:
    (tmp_path / "token").write_text("t0ken\n")
    container = {"name": "train", "image": "train:1", "env": [{"name": "A", "value": "b"}]}
    manifest = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": {"containers": [container]}}}}
    (tmp_path / "job.json").write_text(json.dumps(manifest))
    section = JobSection(
        manifest=str(tmp_path / "job.json"), namespace="ml", server=url, token=f"file:{tmp_path / 'token'}"
    )
    told = {"FERRYMAN_ACTION_ID": "a1"}
    return run_job(section, ACTION, told, timeout_s=timeout_s, environment={}, look_s=0.05)


def test_a_job_is_made_once_told_why_and_followed_to_its_end(tmp_path: Path) -> None:
    complete = {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    answers = Answers((409, {"message": "already exists"}), (200, {"status": {}}), (503, {}), (200, complete))
    with answering(answers) as url:
        assert a_job(tmp_path, url) == "the Job ferryman-retrain-a1 in ml is complete"
    method, path, job, who = answers.asked[0]
    assert (method, path, who) == ("POST", "/apis/batch/v1/namespaces/ml/jobs", "Bearer t0ken")
    assert job["metadata"]["name"] == "ferryman-retrain-a1"
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "A", "value": "b"}, {"name": "FERRYMAN_ACTION_ID", "value": "a1"}]


@pytest.mark.parametrize(
    ("planned", "said"),
    [
        (((403, {"message": "jobs is forbidden"}),), "can't be made in ml: 403 jobs is forbidden"),
        (((201, {}), (404, {})), "is gone from ml"),
        (
            ((201, {}), (200, {"status": {"conditions": [{"type": "Failed", "status": "True", "message": "OOM"}]}})),
            "in ml failed: OOM",
        ),
        (((201, {}), (200, {"status": {}})), "took longer than 0.2 s, and was removed"),
    ],
)
def test_a_job_that_fails_says_why(tmp_path: Path, planned: tuple[tuple[int, Any], ...], said: str) -> None:
    answers = Answers(*planned)
    with answering(answers) as url, pytest.raises(Undelivered, match=said):
        a_job(tmp_path, url, timeout_s=0.2 if "longer" in said else 20.0)
    if "removed" in said:
        assert answers.asked[-1][0] == "DELETE"
