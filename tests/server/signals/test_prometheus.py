"""What a real Prometheus makes of the figures over reloads, switches, evictions and losses."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.bundle.making import bundle_affine
from tests.chaos.load import HttpLoad, Target
from tests.chaos.questions import affine
from tests.chaos.serving import Serving, serving
from tests.server.misbehaving import ANSWER, LEAK, bundle_misbehaving, with_plugin
from tests.server.running import Running, running, wait_until
from tests.server.signals.prometheus import EVERY_S, prometheus

GUIDE = Path(__file__).parents[3] / "docs" / "operating.md"
RELOADS = 5
LIMIT_MB = 200
ASKED = "ferryman_requests_total"
pytestmark = pytest.mark.slow


def alerts() -> str:
    """Give the alerts that the guide shows."""
    found = re.search(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found.group(1)


def load(server: Serving, name: str = "affine", **parameters: str) -> None:
    status, answer = server.admin("POST", f"/v2/repository/models/{name}/load", {"parameters": parameters})
    assert status == 200, answer


def ready(server: Running) -> dict[str, float]:
    """Give what is told of each model's and version's readiness."""
    text = server.ask("GET", "/metrics")[1].decode()
    found = re.findall(r'^ferryman_model_ready\{model="(\w+)",version="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return {f"{model} {version}": float(value) for model, version, value in found}


def test_over_five_reloads_the_increase_is_what_was_sent(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    content = repository / "affine" / "1"
    bundle_affine(content)
    with serving([repository]) as server, prometheus(tmp_path, server.address) as watcher:
        wait_until(lambda: watcher.ask(ASKED))
        with HttpLoad(Target(server.port), affine(), callers=4) as http:
            for number in range(1, RELOADS + 1):
                http.wait_for_answers(50)
                shutil.rmtree(content)
                bundle_affine(content, factor=2 + number * 1e-6)  # all but the same answers, and another digest
                load(server)
            http.wait_for_answers(50)
        digests = {labels["digest"] for labels, _ in watcher.ask("count_over_time(ferryman_model_loaded[5m])")}
        end_s = watcher.scraped_again()
        grown = watcher.value(f'sum(increase({ASKED}{{model="affine"}}[5m]))', at_s=end_s)
        resets = watcher.value(f"sum(resets({ASKED}[5m])) + sum(resets(ferryman_request_seconds_count[5m]))")
    assert http.counts.answered == http.counts.sent
    assert len(digests) > 1, "it saw more than one content"
    assert resets == 0
    assert round(grown, 3) == http.counts.sent


def test_what_a_version_counted_stays_when_another_takes_its_place_or_it_is_unloaded(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    bundle_affine(repository / "affine" / "1")
    with serving([repository]) as server, prometheus(tmp_path, server.address) as watcher:
        with HttpLoad(Target(server.port), affine(), callers=4) as http:
            for version in ("2", "3"):
                http.wait_for_answers(50)
                bundle_affine(repository / "affine" / version)
                load(server)
            http.wait_for_answers(50)
        assert server.admin("POST", "/v2/repository/models/affine/unload")[0] == 200
        end_s = watcher.scraped_again()
        counted = {labels["version"]: value for labels, value in watcher.ask(f"sum by (version) ({ASKED})", at_s=end_s)}
        assert set(counted) == {"1", "2", "3"}
        assert sum(counted.values()) == http.counts.sent
        assert watcher.ask("ferryman_model_loaded", at_s=end_s) == []
        assert watcher.ask("ferryman_model_ready", at_s=end_s) == []
        load(server)
        watcher.scraped_again()
        assert watcher.value(f"sum(resets({ASKED}[5m]))") == 0


def test_the_alerts_of_the_guide_are_sound_and_fire_for_a_model_that_is_down(tmp_path: Path) -> None:
    rules = alerts()
    (tmp_path / "rules.yml").write_text(rules)
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("NOT TESTED: promtool is not installed")
    told = subprocess.run([tool, "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    bundle = bundle_affine(tmp_path / "affine")
    soon = re.sub(r"for: \d+m", f"for: {EVERY_S * 1e3:.0f}ms", rules)
    with serving([bundle.path]) as server, prometheus(tmp_path, server.address, soon) as watcher:
        assert watcher.alerts() == set()
        (bundle.path / "bundle.json").rename(tmp_path / "taken away")  # so that nobody can come back
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: watcher.alerts() == {"ModelDown", "GoldenWrong"}, timeout_s=30)
        assert server.metric("ferryman_model_loaded") == 0
        (tmp_path / "taken away").rename(bundle.path / "bundle.json")
        wait_until(lambda: not watcher.alerts() and server.metric("ferryman_model_loaded") == 1, timeout_s=60)


def test_a_version_that_could_never_be_loaded_is_known_and_not_ready(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    bundle_affine(repository / "affine" / "1")
    with serving([repository]) as server:
        assert set(ready(server).values()) == {1.0}
        broken = bundle_affine(repository / "affine" / "2", factor=3.0)
        model = next(path for path in broken.path.rglob("*.onnx"))
        model.write_bytes(b"nothing")
        assert server.admin("POST", "/v2/repository/models/affine/load", {"parameters": {"version": "2"}})[0] >= 400
        assert ready(server) == {"affine 1": 1.0, "affine 2": 0.0}


def test_what_could_not_be_loaded_at_the_start_is_known_and_not_ready(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for name in ("good", "garbled", "changed"):
        bundle_affine(repository / name / "1", name=name)
    (repository / "garbled" / "1" / "bundle.json").write_text("{")
    next((repository / "changed" / "1").rglob("*.onnx")).write_bytes(b"nothing")
    with running([repository], is_ready=False) as server:
        assert ready(server) == {"good 1": 1.0, "garbled 1": 0.0, "changed 1": 0.0}
        assert b'ferryman_model_loaded{model="good"' in server.ask("GET", "/metrics")[1]


def test_an_evicted_model_is_ready_and_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_plugin(monkeypatch)
    bundles = [bundle_misbehaving(tmp_path / name, name=name) for name in ("old", "new")]
    with serving([bundle.path for bundle in bundles], "--max-memory-mb", str(LIMIT_MB)) as server:
        for model, order in (("old", [LEAK, LIMIT_MB + 10]), ("new", [ANSWER, 1])):  # so 'old' is idle for longer
            values = {"name": "order", "shape": [1, 2], "datatype": "FP32", "data": order}
            assert server.infer(model, {"inputs": [values]})[0] == 200
        wait_until(lambda: "'old' makes room" in server.log(), timeout_s=30)
        loaded = re.compile(r'^ferryman_model_loaded{model="(\w+)".*} 1$', re.MULTILINE)
        wait_until(lambda: loaded.findall(server.ask("GET", "/metrics")[1].decode()) == ["new"])
        text = server.ask("GET", "/metrics")[1].decode()
    assert re.findall(r"^ferryman_model_ready{.*} (\S+)$", text, re.MULTILINE) == ["1.0", "1.0"]
    assert re.findall(r'^ferryman_golden_ok{model="(\w+)".*} 1$', text, re.MULTILINE) == ["new"]
