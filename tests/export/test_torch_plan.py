"""Torch's formats in the plan: reached when asked for, and nobody's way elsewhere."""

import pytest

from ferryman.build.plan import make_plan
from ferryman.core.deployment import BuildSection
from ferryman.core.errors import PlanError
from ferryman.core.plugins import runtime_for

SOURCES = ("onnx", "torch-export", "torchscript", "torch-weights", "sklearn", "xgboost", "lightgbm", "catboost")
STEPS = {"onnx-to-torch", "torch-weights-to-torch", "torchscript", "aotinductor"}
FORMATS = ("torch-export", "torchscript", "aotinductor")


def _steps(source: str, formats: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    plan = make_plan(source, BuildSection(formats=formats), calibration=100)
    return {candidate.name: candidate.steps for candidate in plan.candidates}


@pytest.mark.parametrize("source", SOURCES)
def test_a_build_that_asks_for_none_of_them_takes_none_of_their_steps(source: str) -> None:
    steps = {name: taken for name, taken in _steps(source).items() if name.startswith(("onnx-", "openvino-"))}
    assert {"onnx-fp32", "onnx-int8", "openvino-fp32", "openvino-int8"} <= steps.keys()
    assert not STEPS & {step for taken in steps.values() for step in taken}
    assert not {f"{name}-fp32" for name in FORMATS} & _steps(source).keys()


@pytest.mark.parametrize(
    ("source", "taken"),
    [
        ("onnx", ("onnx-to-torch",)),
        ("torch-weights", ("torch-weights-to-torch",)),
        ("torchscript", ("torch-to-onnx", "onnx-to-torch")),
        ("torch-export", ()),
    ],
)
def test_each_is_reached_from_where_a_model_may_come(source: str, taken: tuple[str, ...]) -> None:
    steps = _steps(source, FORMATS)
    assert steps["torch-export-fp32"] == taken
    assert steps["aotinductor-fp32"] == (*taken, "aotinductor")
    assert steps["torchscript-fp32"] == (() if source == "torchscript" else (*taken, "torchscript"))


@pytest.mark.parametrize("name", FORMATS)
def test_they_are_verified_and_not_served(name: str) -> None:
    assert runtime_for(name)
    with pytest.raises(PlanError):
        runtime_for(name, serves=True)
