"""Rollouts of a real server, steered over its admin port, with callers all the while: none may see an error."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from ferryman.client.admin import Admin
from ferryman.core.errors import NotFound
from tests.bundle.making import bundle_affine
from tests.server.running import Running, running, wait_until

PLAN = {"shadow": 0.5, "steps": [0.1, 0.5], "min_requests": 30, "step_s": 0.2, "max_p99_ratio": 1000.0}
ASKED = {"inputs": [{"name": "values", "shape": [1, 3], "datatype": "FP32", "data": [1.0, 1.0, 1.0]}]}
CALLERS = 4


class Callers:
    """Ask over kept connections until the block ends; `ended` counts versions, and everything that is no answer."""

    def __init__(self, server: Running, headers: dict[str, str] | None = None) -> None:
        self.ended: Counter[str] = Counter()
        self._server = server
        self._headers = headers or {}
        self._is_over = threading.Event()
        self._adding = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CALLERS)]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self) -> None:
        connection = HTTPConnection(self._server.address, timeout=20)
        while not self._is_over.wait(0.001):
            ended = self._once(connection)
            with self._adding:
                self.ended[ended] += 1
        connection.close()

    def _once(self, connection: HTTPConnection) -> str:
        try:
            connection.request("POST", "/v2/models/affine/infer", json.dumps(ASKED), self._headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, ValueError) as error:
            return f"lost: {error!r}"
        return f"version {answer['model_version']}" if response.status == 200 else f"{response.status}: {answer}"


@contextmanager
def serving(folder: Path) -> Iterator[tuple[Running, Admin]]:
    with running([folder], admin_port=0) as server:
        yield server, Admin(server.admin_url)


def phase(admin: Admin) -> str:
    return str(admin.rollout("affine")["phase"])


def test_a_bad_version_is_rolled_back_by_itself_and_a_good_one_promoted_without_one_failed_request(
    tmp_path: Path,
) -> None:
    bundle_affine(tmp_path / "affine" / "1", factor=2.0)
    with serving(tmp_path) as (server, admin):
        bundle_affine(tmp_path / "affine" / "2", factor=2.5)
        bundle_affine(tmp_path / "affine" / "3", factor=2.0001)
        with Callers(server) as callers:
            admin.start_rollout("affine", "2", PLAN)
            wait_until(lambda: phase(admin) == "rolled back", timeout_s=60)
            assert set(callers.ended) == {"version 1"}
            assert "compared answers differ" in admin.rollout("affine")["events"][-1]["reason"]
            admin.start_rollout("affine", "3", PLAN)
            wait_until(lambda: phase(admin) == "promoted", timeout_s=60)
            before = callers.ended["version 3"]
            wait_until(lambda: callers.ended["version 3"] > before + 100)
            admin.move_rollout("affine", "back")
            before = callers.ended["version 1"]
            wait_until(lambda: callers.ended["version 1"] > before + 100)
        assert set(callers.ended) == {"version 1", "version 3"}
        assert server.stop() == 0


def test_a_server_that_is_killed_goes_on_with_its_rollout(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "affine" / "1", factor=2.0)
    with serving(tmp_path) as (server, admin):
        bundle_affine(tmp_path / "affine" / "2", factor=2.0)
        with Callers(server):
            admin.start_rollout("affine", "2", {**PLAN, "shadow": 0, "min_requests": 200})
            wait_until(lambda: admin.rollout("affine")["step"] == 1, timeout_s=60)
            admin.move_rollout("affine", "pause")
        server.process.kill()
        server.process.wait(20)
    with serving(tmp_path) as (server, admin):
        wait_until(lambda: admin.rollout("affine")["events"][-1]["kind"] == "canary")
        shown = admin.rollout("affine")
        assert (shown["phase"], shown["step"], shown["is_paused"], shown["active"]) == ("canary", 1, True, "1")
        assert shown["figures"]["candidate"]["requests"] == 0
        admin.move_rollout("affine", "resume")
        with Callers(server) as callers:
            wait_until(lambda: phase(admin) == "promoted", timeout_s=60)
        assert set(callers.ended) == {"version 1", "version 2"}
    with serving(tmp_path) as (_, admin):
        assert (phase(admin), admin.rollout("affine")["active"]) == ("promoted", "2")


def test_one_caller_s_key_keeps_it_on_one_side(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "affine" / "1", factor=2.0)
    with serving(tmp_path) as (server, admin):
        bundle_affine(tmp_path / "affine" / "2", factor=2.0)
        admin.start_rollout("affine", "2", {"shadow": 0, "steps": [0.5], "min_requests": 100_000})
        wait_until(lambda: phase(admin) == "canary")
        sides: list[str] = []
        for number in range(12):
            with Callers(server, {"x-ferryman-key": f"caller-{number}"}) as callers:
                wait_until(lambda: callers.ended.total() >= 20)
            assert len(callers.ended) == 1
            sides.extend(callers.ended)
        assert set(sides) == {"version 1", "version 2"}


def test_the_public_port_steers_no_rollout(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "affine" / "1", factor=2.0)
    with serving(tmp_path) as (server, _):
        assert server.ask("GET", "/admin/rollouts")[0] == 404
        assert server.ask("POST", "/admin/rollouts/affine", b'{"version": "2"}')[0] == 404


def test_a_version_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "affine" / "1", factor=2.0)
    with serving(tmp_path) as (_, admin):
        with pytest.raises(NotFound, match="version '7'") as caught:
            admin.start_rollout("affine", "7", PLAN)
        assert caught.value.hint == "there are versions 1"
        with pytest.raises(NotFound, match="no rollout of 'affine'"):
            admin.rollout("affine")
