"""Candidates whose batch is fixed though the source's is free: many rows a call there, so many here."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from ferryman import api
from ferryman.build.cache import Cache
from ferryman.build.performance import footprint, measure_latency
from ferryman.build.run import open_workshop
from ferryman.build.workshop import Workshop
from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.deployment import load_project
from ferryman.core.progress import silent
from ferryman.core.signature import Signature
from tests.bundle.making import make_table_model

TOML = """
[model]
name = "rows"
source = "table.onnx"
[task]
kind = "tabular"
columns = ["width", "height", "weight"]
labels = ["light", "heavy"]
[data]
evaluation = {{ items = "rows.csv", target = "label" }}
[build]
candidates = ["onnx-fp32"]
formats = {formats}
"""


def write_table(folder: Path, *, formats: str = "[]") -> Path:
    """Write a project of a model of rows [batch, 3], with 37 labelled rows."""
    make_table_model(folder)
    lines = [
        f"{width:.3f},{height:.3f},{weight:.3f},{'light' if width + 0.5 * height > 2 * weight else 'heavy'}"
        for width, height, weight in np.random.default_rng(0).normal(size=(37, 3))
    ]
    (folder / "rows.csv").write_text("\n".join(["width,height,weight,label", *lines]) + "\n")
    (folder / "ferryman.toml").write_text(TOML.format(formats=formats))
    return folder


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return open_workshop(load_project(write_table(tmp_path)), Cache(tmp_path / "cache"), silent)


def fix_batch(source: Artifact, folder: Path, size: int, *, factor: float = 1.0) -> Artifact:
    """Write the source with a batch that is fixed, and its weights times a factor."""
    model = onnx.load(source.path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = size
    (weights,) = model.graph.initializer
    weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) * np.float32(factor), "weights"))
    path = folder / f"fixed-{size}-{factor}.onnx"
    onnx.save(model, path)

    def fixed(signature: Signature) -> Signature:
        return Signature(
            inputs=tuple(spec.model_copy(update={"shape": (size, *spec.shape[1:])}) for spec in signature.inputs),
            outputs=tuple(spec.model_copy(update={"shape": (size, *spec.shape[1:])}) for spec in signature.outputs),
        )

    return replace(source, path=path, digest=digest_file(path), signature=fixed(source.signature))


@pytest.mark.parametrize("size", [1, 4])
def test_rows_are_examined_in_the_batch_that_a_candidate_takes(workshop: Workshop, tmp_path: Path, size: int) -> None:
    examined = workshop.examine(fix_batch(workshop.source, tmp_path, size), "fixed")
    assert examined.parity.samples == 8, "calls whose raw outputs were compared"
    assert examined.parity.max_rel["probabilities"] < 1e-6
    assert examined.accuracy is not None
    assert (examined.accuracy.samples, examined.accuracy.drop) == (37, 0.0)


def test_a_candidate_of_a_fixed_batch_that_answers_otherwise_is_seen(workshop: Workshop, tmp_path: Path) -> None:
    examined = workshop.examine(fix_batch(workshop.source, tmp_path, 1, factor=1.5), "wrong")
    assert examined.parity.max_rel["probabilities"] > 0.01
    assert any(distance > 0 for distance in examined.agreement.values())


def test_a_candidate_of_a_fixed_batch_is_timed_and_gives_golden_answers(workshop: Workshop, tmp_path: Path) -> None:
    fixed = fix_batch(workshop.source, tmp_path, 4)
    assert workshop.answers(fixed, [3, 5]) == workshop.answers(workshop.source, [3, 5])
    assert measure_latency(workshop, {"fixed": fixed})["fixed"].ratio > 0
    assert (footprint(workshop, fixed, "fixed").rss_mb or 0) > 0


@pytest.mark.slow
@pytest.mark.toolchain("ncnn")
def test_a_table_is_exported_to_a_format_of_one_row_a_call(tmp_path: Path) -> None:
    built = api.build(write_table(tmp_path, formats='["ncnn"]'))
    line = next(line for line in built.proof.candidates if line.name == "ncnn-fp32")
    assert line.status == "accepted", line.reason
    assert list(built.proof.exports) == ["ncnn"]
