from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ferryman.core.artifact import Artifact
from ferryman.core.errors import NotApplicable
from ferryman.core.plugins import find, runtime_for
from ferryman.core.signature import Tensors
from ferryman.optimize.openvino_weights import OpenVINOWeights4, OpenVINOWeights8
from tests.optimize.making import context_of, make_convolutions, make_products, rows

pytest.importorskip("nncf")


def _converted(source: Artifact, folder: Path) -> Artifact:
    artifact: Artifact = find("steps", "openvino").require()().run(source, context_of(folder))
    return artifact


def _answer(artifact: Artifact, inputs: Tensors) -> NDArray[np.float32]:
    session = runtime_for(artifact.format).require()().load(artifact, threads=1)
    try:
        return np.asarray(next(iter(session.infer(inputs).values())), np.float32)
    finally:
        session.close()


@pytest.mark.slow
@pytest.mark.parametrize(("step", "tolerance"), [(OpenVINOWeights8(), 0.02), (OpenVINOWeights4(group_size=16), 0.25)])
def test_products_answer_nearly_the_same_with_few_bits(
    tmp_path: Path, step: OpenVINOWeights8, tolerance: float
) -> None:
    source = _converted(make_products(tmp_path / "model.onnx"), tmp_path / "openvino")
    made = step.run(source, context_of(tmp_path / "work"))
    item = rows(1)[0]
    want, got = _answer(source, item), _answer(made, item)
    assert 0 < np.abs(got - want).max() < tolerance * np.abs(want).max()
    assert (made.precision, made.made_by[-1]) == (step.precision, step.name)
    assert made.size_bytes < source.size_bytes + 20_000  # weights shrink; what describes them is added


@pytest.mark.slow
def test_convolutions_alone_have_no_4_bits(tmp_path: Path) -> None:
    source = _converted(make_convolutions(tmp_path / "model.onnx"), tmp_path / "openvino")
    with pytest.raises(NotApplicable, match="no matrix product with weights"):
        OpenVINOWeights4().run(source, context_of(tmp_path / "work"))
