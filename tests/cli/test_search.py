"""`ferryman plan` and `ferryman build` with targets and a budget of time."""

import json
from pathlib import Path

import pytest

from tests.build.making import write_project
from tests.cli.running import ferryman

BUILD = 'candidates = ["onnx-fp32", "onnx-fp16", "onnx-int8"]\ntargets = ["server"]'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("search") / "squares", build=BUILD)


def test_a_plan_shows_what_each_candidate_costs_and_which_target_it_may_win(project: Path) -> None:
    lines = ferryman("plan", folder=project).stdout.splitlines()
    assert lines[0].split() == ["candidate", "takes", "for", "steps"]
    assert lines[3].split() == ["onnx-int8", "~10", "s", "server", "onnx", "->", "int8"]
    assert lines[-1] == "for server: onnx-fp32, onnx-fp16, onnx-int8"


def test_a_build_says_what_its_time_budget_left_out(project: Path) -> None:
    answer = ferryman("build", "--time-budget", "0s", "--json", folder=project)
    assert answer.returncode == 0, answer.stderr
    told = json.loads(answer.stdout)
    assert told["targets"] == {"server": "onnx-fp32"}
    status = {line["name"]: line["status"] for line in told["proof"]["candidates"]}
    assert status == {"onnx-fp32": "accepted", "onnx-fp16": "not tried", "onnx-int8": "not tried"}


def test_a_time_budget_that_is_no_time_is_refused(project: Path) -> None:
    answer = ferryman("build", "--time-budget", "soon", folder=project)
    assert answer.returncode == 2
    assert "as 90s, 15m, 1h, 30d" in answer.stderr
