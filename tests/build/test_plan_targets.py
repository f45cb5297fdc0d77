"""The plan with targets, with pruning, and with costs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ferryman.build.plan import Candidate, Plan, make_plan
from ferryman.build.search import pruned_by
from ferryman.core.deployment import BuildSection
from ferryman.core.errors import ConfigError
from tests.build.pruning import pruning_installed


@pytest.fixture
def pruning(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with pruning_installed(monkeypatch):
        yield


def planned(**section: Any) -> dict[str, Candidate]:
    return {one.name: one for one in plan_of(**section).candidates}


def plan_of(**section: Any) -> Plan:
    return make_plan("onnx", BuildSection(**section), calibration=100)


def test_a_target_asks_for_the_formats_that_run_there() -> None:
    found = planned(targets=("browser",))
    assert {one.format for one in found.values() if "browser" in one.targets} == {"ort-web", "tfjs"}
    assert not found["ort-web-fp32"].serves
    assert found["onnx-int8"].serves, "something has to be served, whatever the targets"
    assert "ort-web-fp32" not in planned()


def test_one_candidate_may_win_several_targets() -> None:
    found = planned(targets=("server", "edge", "phone"))
    assert found["openvino-int8"].targets == ("server", "edge")
    assert found["ncnn-fp32"].targets == ("edge", "phone")


def test_what_is_asked_to_be_served_may_win_the_server() -> None:
    found = planned(candidates=("litert-fp32",), targets=("server",))
    assert found["litert-fp32"].serves
    assert found["litert-fp32"].targets == ("server",)


def test_named_candidates_limit_what_is_tried_unasked_and_not_what_a_target_asks_for() -> None:
    found = planned(candidates=("onnx-fp32",), targets=("server", "browser"))
    assert set(found) == {"onnx-fp32", "ort-web-fp32", "tfjs-fp32"} | {n for n in found if n.startswith("ort-web")}
    assert set(planned(candidates=("onnx-fp32", "tfjs-fp32"), targets=("browser",))) >= {"onnx-fp32", "tfjs-fp32"}


def test_what_is_only_made_on_request_is_not_asked_for_by_a_target() -> None:
    assert not any(name.endswith("-w4") for name in planned(targets=("server", "edge", "browser", "phone")))


def test_an_unknown_target_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"build\.targets names 'browsers'.*did you mean 'browser'") as caught:
        plan_of(targets=("browsers",))
    assert "server" in caught.value.hint


def test_a_missing_toolchain_is_told_with_its_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FERRYMAN_TOOLCHAINS", str(tmp_path))
    why = planned(targets=("browser",))["ort-web-fp32"].unavailable
    assert "ferryman toolchain add web" in why
    assert plan_of(targets=("browser",)).as_json()["targets"] == {"browser": []}


@pytest.mark.usefixtures("pruning")
def test_what_was_pruned_can_be_quantized_and_turned_into_other_formats() -> None:
    names = ("onnx-fp32", "onnx-pruned", "onnx-pruned-int8", "onnx-pruned-fp16", "openvino-pruned-int8")
    steps = {name: one.steps for name, one in planned(candidates=names).items()}
    assert steps["onnx-pruned"] == ("keep-first",)
    assert steps["onnx-pruned-int8"] == ("keep-first", "int8")
    assert steps["onnx-pruned-fp16"] == ("keep-first", "fp16")
    assert steps["openvino-pruned-int8"] == ("keep-first", "openvino", "openvino-int8")


@pytest.mark.usefixtures("pruning")
def test_pruning_is_never_tried_unasked_and_costs_what_it_says() -> None:
    assert not any("pruned" in name for name in planned(targets=("server", "browser")))
    pruned = planned(candidates=("onnx-pruned-int8",))["onnx-pruned-int8"]
    assert pruned.cost_s > 300
    assert pruned_by(pruned) == ("keep-first",)


def test_what_needs_a_toolchain_is_guessed_to_cost_more_than_what_does_not() -> None:
    found = planned(targets=("browser",))
    assert found["onnx-fp32"].cost_s == 0
    assert found["onnx-fp16"].cost_s < found["onnx-int8"].cost_s < found["ort-web-fp32"].cost_s
