"""The plan: which candidates, by which steps."""

import pytest

from ferryman.build.plan import make_plan
from ferryman.core.deployment import BuildSection
from ferryman.core.errors import ConfigError, PlanError


def _steps(source: str, *, calibration: int = 100, section: BuildSection | None = None) -> dict[str, tuple[str, ...]]:
    plan = make_plan(source, section or BuildSection(), calibration=calibration)
    return {candidate.name: candidate.steps for candidate in plan.candidates if not candidate.unavailable}


def test_every_format_and_precision_is_reached_by_its_shortest_chain() -> None:
    steps = _steps("onnx")
    assert steps["onnx-fp32"] == ()
    assert steps["onnx-int8"] == ("int8",)
    assert steps["openvino-fp16"] == ("openvino-fp16",)
    assert steps["openvino-int8"] == ("openvino", "openvino-int8")


def test_a_source_that_is_not_onnx_is_imported_first() -> None:
    assert _steps("sklearn")["onnx-fp32"] == ("sklearn-to-onnx",)
    assert _steps("torch-export")["openvino-int8"] == ("torch-to-onnx", "openvino", "openvino-int8")


def test_int8_without_calibration_data_is_unavailable_and_says_what_to_give() -> None:
    plan = make_plan("onnx", BuildSection(), calibration=0)
    reasons = {candidate.name: candidate.unavailable for candidate in plan.candidates}
    assert "data.calibration" in reasons["onnx-int8"]
    assert reasons["onnx-fp32"] == ""


def test_only_the_named_candidates_are_tried() -> None:
    assert set(_steps("onnx", section=BuildSection(candidates=("onnx-int8",)))) == {"onnx-int8"}


def test_an_unknown_candidate_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'onnx-int8'"):
        make_plan("onnx", BuildSection(candidates=("onnx-int9",)), calibration=1)


def test_options_for_an_unknown_step_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"build\.options\.intt8 is not a step"):
        make_plan("onnx", BuildSection(options={"intt8": {}}), calibration=1)


def test_a_format_from_which_nothing_can_be_served_is_refused() -> None:
    with pytest.raises(PlanError, match="'savedmodel'"):
        make_plan("savedmodel", BuildSection(), calibration=1)
