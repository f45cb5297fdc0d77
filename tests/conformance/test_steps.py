"""What every step holds, built in or not: run this on yours by installing it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.core.artifact import Artifact, digest_path
from ferryman.core.plugins import Plugin, plugins, runtime_for
from ferryman.core.signature import Array, Tensors
from ferryman.core.step import StepContext
from tests.conformance.making import AWKWARD, inputs_for, make
from tests.optimize.making import make_products

TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "int8": 0.15, "int8-dynamic": 0.15}
"""By precision: the largest error against the source, by the largest value of that output."""


@pytest.fixture(params=plugins("steps"))
def step(request: pytest.FixtureRequest) -> Plugin:
    plugin = plugins("steps")[request.param]
    if not plugin.is_available:
        pytest.skip(f"NOT TESTED: step '{plugin.name}' lacks {', '.join(plugin.missing)}")
    return plugin


@pytest.fixture
def source(step: Plugin, tmp_path: Path) -> Artifact:
    if step.name == "int8-dynamic":  # the one that takes matrix products only
        folder = tmp_path / AWKWARD
        folder.mkdir()
        return make_products(folder / "model.onnx")
    return make(min(step.cls.accepts), tmp_path / "source")


def _context(source: Artifact, workspace: Path) -> StepContext:
    return StepContext(workspace, [inputs_for(source.signature, seed=seed) for seed in range(32)])


def _answer(artifact: Artifact, inputs: Tensors) -> dict[str, Array]:
    session = runtime_for(artifact.format).require()().load(artifact, threads=1)
    try:
        answer: dict[str, Array] = session.infer(inputs)
        return answer
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


def test_equal_input_makes_equal_bytes(step: Plugin, source: Artifact, tmp_path: Path) -> None:
    first = step.cls().run(source, _context(source, tmp_path / f"one {AWKWARD}"))
    second = step.cls().run(source, _context(source, tmp_path / "two"))
    assert first.digest == second.digest
    assert digest_path(second.path) == second.digest


def test_the_new_artifact_tells_its_origin_and_stays_in_the_workspace(
    step: Plugin, source: Artifact, tmp_path: Path
) -> None:
    workspace = tmp_path / f"work {AWKWARD}"
    made = step.cls().run(source, _context(source, workspace))
    assert made.format == step.cls.produces
    assert made.precision == (step.cls.precision or source.precision)
    assert made.made_by == (*source.made_by, step.name)
    assert made.path.is_relative_to(workspace)
    assert not [path for path in workspace.rglob("*") if "partial" in path.name]


def test_the_signature_is_kept(step: Plugin, source: Artifact, tmp_path: Path) -> None:
    made = step.cls().run(source, _context(source, tmp_path / "work"))
    session = runtime_for(made.format).require()().load(made, threads=1)
    assert session.signature == made.signature
    session.close()
    assert [spec.name for spec in made.signature.inputs] == [spec.name for spec in source.signature.inputs]
    assert [spec.dtype for spec in made.signature.inputs] == [spec.dtype for spec in source.signature.inputs]


def test_the_source_is_not_touched(step: Plugin, source: Artifact, tmp_path: Path) -> None:
    before = digest_path(source.path)
    step.cls().run(source, _context(source, tmp_path / "work"))
    assert digest_path(source.path) == before


def test_answers_stay_within_the_precision(step: Plugin, source: Artifact, tmp_path: Path) -> None:
    made = step.cls().run(source, _context(source, tmp_path / "work"))
    for seed in range(3):
        inputs = inputs_for(source.signature, seed=100 + seed)
        want, got = _answer(source, inputs), _answer(made, inputs)
        assert got
        for name in got.keys() & want.keys():
            if want[name].dtype.kind != "f":
                continue
            wanted, given = want[name].astype(np.float64), got[name].astype(np.float64)
            largest = np.abs(wanted).max()
            assert np.abs(given - wanted).max() <= TOLERANCE[made.precision] * largest, name
