"""The rules for Prometheus: as promtool reads them, and as its tests of them find; a wrong rule fails these tests."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from ferryman.cli.main import main
from ferryman.core.deployment import load_project
from ferryman.monitor.alerts.fact import FAULTS
from ferryman.monitor.alerts.rules import rules_of, rules_of_machine
from ferryman.monitor.prometheus.files import files_of
from ferryman.server.data.signals.outcomes import OUTCOMES
from ferryman.targets.yaml import write_yaml

PROJECT = """
[model]
name = "street"
source = "street.onnx"
[task]
kind = "tensor"
[contract]
p99_ms = 60
max_rss_mb = 300
"""
pytestmark = pytest.mark.tool("promtool")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "ferryman.toml").write_text(PROJECT)
    assert main(["monitor", "rules", str(folder), "-o", str(folder / "out"), "--quiet"]) == 0
    return folder / "out"


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=120)


def test_promtool_takes_the_rules(written: Path) -> None:
    result = promtool("check", "rules", "--lint=all", "--lint-fatal", *sorted(written.glob("*.rules.yml")))
    assert result.returncode == 0, result.stdout + result.stderr


def test_each_rule_stays_quiet_fires_and_is_over(written: Path) -> None:
    result = promtool("test", "rules", *sorted(written.glob("*.tests.yml")))
    assert result.returncode == 0, result.stdout + result.stderr
    deployment = load_project(written.parent).deployment
    tested = {one["name"] for file, made in files_of(deployment).items() if ".tests." in file for one in made["tests"]}
    rules = [*rules_of(deployment), *rules_of_machine(deployment.monitor.alerts)]
    assert len(tested) == len(rules) + 1  # and FerrymanGone


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("FerrymanGolden", r"ok{model=\"street\"} < 1", r"ok{model=\"street\"} < 0"),
        ("FerrymanErrors", "deadline|failed|not_ready|overloaded", "deadline|not_ready|overloaded"),
        ("FerrymanDrift", r"drifted{model=\"street\"} > 0", r"drifted{model=\"street\"} >= 0"),
        ("FerrymanMemory", 'keep_firing_for: "5m"', 'keep_firing_for: "5h"'),
        ("FerrymanMemory", 'for: "5m"\n        keep', 'for: "5h"\n        keep'),
    ],
)
def test_a_rule_that_is_wrong_fails_its_test(written: Path, tmp_path: Path, name: str, right: str, wrong: str) -> None:
    made = files_of(load_project(written.parent).deployment)["ferryman-street.tests.yml"]
    tests = tmp_path / "one.tests.yml"
    tests.write_text(write_yaml({**made, "tests": [one for one in made["tests"] if one["name"] == name]}))
    rules = (written / "ferryman-street.rules.yml").read_text()
    assert right in rules
    file = tmp_path / "ferryman-street.rules.yml"
    file.write_text(rules.replace(right, wrong))
    assert promtool("test", "rules", tests).returncode != 0


def test_faults_are_words_of_the_server() -> None:
    assert set(FAULTS) < OUTCOMES


def test_what_is_off_is_in_no_file(tmp_path: Path) -> None:
    (tmp_path / "ferryman.toml").write_text(PROJECT + '[monitor.alerts]\noff = ["silence", "drift", "latency"]\n')
    made = files_of(load_project(tmp_path).deployment)
    text = json.dumps(made["ferryman-street.rules.yml"])
    assert not any(name in text for name in ("FerrymanSilence", "FerrymanDrift", 'FerrymanLatency"'))
    assert "FerrymanLatencySlow" in text
    assert "Silence" not in json.dumps(made["ferryman-street.slow.tests.yml"])


def test_other_thresholds_are_tested_too(tmp_path: Path) -> None:
    changed = """
[monitor.alerts]
availability = 0.95
at_least = 50
[monitor.alerts.rules]
golden = { for_s = 600, clear_s = 0, severity = "warning" }
silence = { limit = 600 }
"""
    (tmp_path / "ferryman.toml").write_text(PROJECT.replace("p99_ms = 60", "p99_ms = 20000") + changed)
    assert main(["monitor", "rules", str(tmp_path), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    result = promtool("test", "rules", tmp_path / "out" / "ferryman-street.tests.yml")
    assert result.returncode == 0, result.stdout + result.stderr


def test_grafanas_own_model_knows_every_key_of_the_dashboard(written: Path) -> None:
    """Read it with Grafana's published types and write it again: a key that they don't know would be gone."""
    register_default_plugins()
    made = json.loads((written / "ferryman-street.dashboard.json").read_text())
    again = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(made)))
    assert lost(made, again) == []


def lost(made: Any, again: Any, where: str = "") -> list[str]:  # JSON
    """Name what is in one and not, or otherwise, in the other."""
    if isinstance(made, dict) and isinstance(again, dict):
        gone = [f"{where}.{key}" for key in made if key not in again]
        return gone + [one for key in made if key in again for one in lost(made[key], again[key], f"{where}.{key}")]
    if isinstance(made, list) and isinstance(again, list) and len(made) == len(again):
        return [
            one for place, (a, b) in enumerate(zip(made, again, strict=True)) for one in lost(a, b, f"{where}[{place}]")
        ]
    return [] if made == again else [f"{where}: {made!r} became {again!r}"]


def test_panels_lie_side_by_side_and_none_over_another(written: Path) -> None:
    made = json.loads((written / "ferryman-street.dashboard.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in made["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in made["panels"]}) == len(made["panels"])
