"""An operator's day: serve a folder, give out a key, ship a new version under load, roll back, and stop."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ferryman.bundle.pack import pack
from tests.bundle.making import bundle_affine
from tests.cli.running import ferryman
from tests.server.running import read_answer, wait_until

BODY = json.dumps({"inputs": [{"name": "values", "shape": [1, 3], "datatype": "FP32", "data": [1, 1, 1]}]})


@dataclass
class Caller:
    """Ask over and over with a key, until told to stop; count who answered, and everything else."""

    url: str
    token: str
    answers: Counter[str] = field(default_factory=Counter)
    others: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=20)
        while not self.stopping.is_set():
            try:
                connection.request("POST", "/v2/models/affine/infer", BODY, {"Authorization": f"Bearer {self.token}"})
                status, answer, _ = read_answer(connection.getresponse())
            except OSError as error:
                self.others.append(repr(error))
                return
            if status == 200:
                self.answers[f"{answer['model_version']}: {answer['outputs'][0]['data'][0]:g}"] += 1
            else:
                self.others.append(f"{status} {answer}")
        connection.close()


@contextmanager
def asking(url: str, token: str) -> Iterator[Caller]:
    caller = Caller(url, token)
    threads = [threading.Thread(target=caller.run) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield caller
    finally:
        caller.stopping.set()
        for thread in threads:
            thread.join(30)


@contextmanager
def serving(folder: Path, *words: str) -> Iterator[tuple[dict[str, str], subprocess.Popen[str]]]:
    """Run `ferryman serve` as a user does; gives its addresses."""
    command = [sys.executable, "-m", "ferryman", "serve", *words, "--port", "0", "--json", "--quiet"]
    with (folder / "serve.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=log, encoding="utf-8", env=dict(os.environ)
        )
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first, (folder / "serve.log").read_text()
            yield json.loads(first), process
        finally:
            process.kill()
            process.communicate(timeout=10)


def steer(url: str, path: str, body: object, token: str = "") -> tuple[int, Any]:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
    bearer = {"Authorization": f"Bearer {token}"} if token else {}
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **bearer})
    status, answer, _ = read_answer(connection.getresponse())
    connection.close()
    return status, answer


def test_an_operators_day_loses_no_request_and_logs_no_token(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    old, new = bundle_affine(tmp_path / "old", factor=2), bundle_affine(tmp_path / "new", factor=3)
    repository.mkdir()
    pack(old.path, repository / "affine-1.ferry")
    added = ferryman("keys", "add", "web", "--models", "aff*", "--file", "keys.json", folder=tmp_path)
    token = added.stdout.strip()
    assert added.returncode == 0, added.stderr
    operator = ferryman("keys", "add", "op", "--scopes", "admin", "--file", "keys.json", folder=tmp_path).stdout.strip()
    first, second = f"{old.manifest.digest[:12]}: 3", f"{new.manifest.digest[:12]}: 4"
    with serving(tmp_path, "models", "--keys", "keys.json", "--access-log", "access.log") as (told, process):
        url, admin = told["url"], told["admin_url"]
        with asking(url, token) as caller:
            wait_until(lambda: caller.answers[first] > 20)
            pack(new.path, repository / "affine-2.ferry")
            assert steer(admin, "/v2/repository/models/affine/load", {}, operator)[0] == 200
            wait_until(lambda: caller.answers[second] > 20)
            back = {"version": old.manifest.digest[:12]}
            status, answer = steer(admin, "/admin/models/affine/activate", back, operator)
            assert status == 200, answer
            before = caller.answers[first]
            wait_until(lambda: caller.answers[first] > before + 20)
            for port in (url, admin):
                refused = [steer(port, "/v2/repository/models/affine/unload", {}, who)[0] for who in ("", token)]
                assert refused == [401, 403], "who steers says who it is, and may"
        assert caller.others == []
        assert set(caller.answers) == {first, second}
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    lines = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
    asked = [line for line in lines if line["path"] == "/v2/models/affine/infer"]
    assert len(asked) == sum(caller.answers.values()), "each request left its line"
    assert {line["caller"] for line in asked} == {"key:web"}
    written = (tmp_path / "access.log").read_text() + (tmp_path / "serve.log").read_text()
    assert token not in written and operator not in written


def test_a_choice_of_version_is_remembered_over_a_restart(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    old, new = bundle_affine(tmp_path / "old", factor=2), bundle_affine(tmp_path / "new", factor=3)
    repository.mkdir()
    for number, bundle in enumerate((old, new), start=1):
        shutil.copytree(bundle.path, repository / f"affine-{number}")
    active: list[str] = []
    for chosen in (old, new):
        version = chosen.manifest.digest[:12]
        with serving(tmp_path, "models", "--access-log", "off") as (told, process):
            if active:
                active.append(steer(told["url"], "/v2/models/affine/infer", json.loads(BODY))[1]["model_version"])
            assert steer(told["admin_url"], "/admin/models/affine/activate", {"version": version})[0] == 200
            active.append(steer(told["url"], "/v2/models/affine/infer", json.loads(BODY))[1]["model_version"])
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
    first, second = (bundle.manifest.digest[:12] for bundle in (old, new))
    assert active == [first, first, second]
