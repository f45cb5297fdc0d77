"""What every step holds, built in or not: run this on yours by installing it."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.core.artifact import Artifact, digest_path
from ferryman.core.plugins import Plugin, plugins, runtime_for
from ferryman.core.signature import Array, Signature, Tensors
from ferryman.core.step import StepContext
from tests.conformance.making import AWKWARD, inputs_for, make, marks_of
from tests.optimize.making import make_convolutions, make_products

TOLERANCE = {
    "fp32": 1e-4,
    "fp16": 2e-2,
    "int8": 0.15,
    "int8-dynamic": 0.15,
    "int8-qat": 0.15,
    "w8": 2e-2,
    "w4": 0.2,
    "pruned": 0.4,
}
"""By precision: the largest error against the source, by the largest value of that output."""
_NEED_PRODUCTS = {"int8-dynamic", "w8", "w4", "openvino-w4"}  # matrix products, or weights enough to gain by it
_QUICK: dict[str, dict[str, Any]] = {"prune": {"steps": 60}, "int8-qat": {"steps": 20}}
"""Options of steps that otherwise take minutes."""


@dataclass(frozen=True)
class Made:
    """Hold what one run of a step made, and what is told of it: run once for all tests, some take long."""

    source: Artifact
    source_before: str
    artifact: Artifact
    workspace: Path
    signature: Signature
    answers: list[tuple[dict[str, Array], dict[str, Array]]]


@pytest.fixture(scope="module", params=[pytest.param(name, marks=marks_of("steps", name)) for name in plugins("steps")])
def step(request: pytest.FixtureRequest) -> Plugin:
    plugin = plugins("steps")[request.param]
    if not plugin.is_available:
        pytest.skip(f"NOT TESTED: step '{plugin.name}' lacks {', '.join(plugin.missing)}")
    return plugin


def _source(step: Plugin, folder: Path) -> Artifact:
    if step.name in _NEED_PRODUCTS:
        (folder / AWKWARD).mkdir()
        products = make_products(folder / AWKWARD / "model.onnx")
        if "onnx" in step.cls.accepts:
            return products
        converted: Artifact = plugins("steps")["openvino"].require()().run(products, StepContext(folder / "converted"))
        return converted
    if step.name == "tf-savedmodel":  # it refuses graphs in which channels, height and width are equal
        (folder / AWKWARD).mkdir()
        return make_convolutions(folder / AWKWARD / "model.onnx", size=24)
    return make(min(step.cls.accepts), folder / "source")


@pytest.fixture(scope="module")
def made(step: Plugin, tmp_path_factory: pytest.TempPathFactory) -> Made:
    if lacking := runtime_for(step.cls.produces).missing:
        pytest.skip(f"NOT TESTED: what runs '{step.cls.produces}' lacks {', '.join(lacking)}")
    folder = tmp_path_factory.mktemp("step")
    source = _source(step, folder)
    before = digest_path(source.path)
    workspace = folder / f"work {AWKWARD}"
    artifact = step.cls(**_QUICK.get(step.name, {})).run(source, _context(source, workspace))
    questions = [inputs_for(source.signature, seed=100 + seed) for seed in range(3)]
    _, wanted = _answers(source, questions)
    signature, given = _answers(artifact, questions)
    return Made(source, before, artifact, workspace, signature, list(zip(wanted, given, strict=True)))


def _context(source: Artifact, workspace: Path) -> StepContext:
    return StepContext(workspace, [inputs_for(source.signature, seed=seed) for seed in range(32)])


def _answers(artifact: Artifact, questions: list[Tensors]) -> tuple[Signature, list[dict[str, Array]]]:
    session = runtime_for(artifact.format).require()().load(artifact, threads=1)
    try:
        return session.signature, [session.infer(question) for question in questions]
    finally:
        session.close()


def test_it_says_what_it_is(step: Plugin) -> None:
    cls: Any = step.cls  # a Step's class
    assert cls.name == step.name
    assert cls.accepts
    assert all(isinstance(name, str) for name in (*cls.accepts, cls.produces, *cls.needs))
    assert cls.precision is None or cls.precision in TOLERANCE
    assert isinstance(cls.calibrates, bool)
    assert step.summary.endswith(".")


def test_its_options_are_the_fields_of_a_frozen_dataclass_with_defaults(step: Plugin) -> None:
    instance = step.cls()
    assert dataclasses.is_dataclass(instance)
    assert instance == step.cls()
    assert isinstance(hash(instance), int)
    for field in dataclasses.fields(instance):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(instance, field.name, getattr(instance, field.name))


def test_equal_input_makes_equal_bytes(step: Plugin, made: Made, tmp_path: Path) -> None:
    again = step.cls(**_QUICK.get(step.name, {})).run(made.source, _context(made.source, tmp_path / "two"))
    assert again.digest == made.artifact.digest
    assert digest_path(again.path) == again.digest


def test_the_new_artifact_tells_its_origin_and_stays_in_the_workspace(step: Plugin, made: Made) -> None:
    assert made.artifact.format == step.cls.produces
    assert made.artifact.precision == (step.cls.precision or made.source.precision)
    assert made.artifact.made_by == (*made.source.made_by, step.name)
    assert made.artifact.path.is_relative_to(made.workspace)
    assert not [path for path in made.workspace.rglob("*") if "partial" in path.name]


def test_the_signature_is_kept(made: Made) -> None:
    before, after = made.source.signature, made.artifact.signature
    assert made.signature == after
    assert [spec.name for spec in after.inputs] == [spec.name for spec in before.inputs]
    assert [spec.dtype for spec in after.inputs] == [spec.dtype for spec in before.inputs]


def test_the_source_is_not_touched(made: Made) -> None:
    assert digest_path(made.source.path) == made.source_before


def test_answers_stay_within_the_precision(made: Made) -> None:
    for want, got in made.answers:
        assert got
        for name in got.keys() & want.keys():
            if want[name].dtype.kind != "f":
                continue
            wanted, given = want[name].astype(np.float64), got[name].astype(np.float64)
            largest = np.abs(wanted).max()
            assert np.abs(given - wanted).max() <= TOLERANCE[made.artifact.precision] * largest, name
