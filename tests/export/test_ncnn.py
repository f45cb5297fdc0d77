from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from ferryman.core.artifact import Artifact
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import StepError
from ferryman.core.step import StepContext
from ferryman.export.ncnn import ToNcnn, ToNcnnHalf
from ferryman.sources.onnx import OnnxSource
from tests.export.edge import answer, check_killed, check_no_space, furthest, onnx_graph
from tests.optimize.making import make_convolutions, pictures

pytestmark = pytest.mark.toolchain("ncnn")


def _big(folder: Path) -> Artifact:
    weights = np.random.default_rng(0).normal(size=(64, 3, 17, 17)).astype(np.float32)
    return onnx_graph(folder, [helper.make_node("Conv", ["images", "w"], ["answer"])], {"w": weights}, (1, 3, 20, 20))


@pytest.mark.parametrize(("step", "tolerance"), [(ToNcnn(), 1e-5), (ToNcnnHalf(), 5e-3)])
def test_answers_are_the_sources(step: ToNcnn, tolerance: float, tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    made = step.run(source, StepContext(tmp_path / "work"))
    assert furthest(answer(made, pictures(1)[0]), answer(source, pictures(1)[0])) < tolerance
    assert [spec.name for spec in made.signature.outputs] == [spec.name for spec in source.signature.outputs]
    assert made.signature.max_batch == 1


def test_inputs_and_outputs_keep_their_names_in_the_file(tmp_path: Path) -> None:
    made = ToNcnn().run(_big(tmp_path), StepContext(tmp_path / "work"))
    words = (made.path / "model.param").read_text("utf-8").split()
    assert "images" in words
    assert "answer" in words


@pytest.mark.parametrize("first", [0, 1])
def test_a_slice_with_steps_is_converted_and_not_dropped(first: int, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Slice", ["images", "s", "e", "a", "t"], ["sliced"]),
        helper.make_node("Conv", ["sliced", "w"], ["answer"]),
    ]
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    far = np.iinfo(np.int64).max
    constants = {"s": [first, 0], "e": [far, far], "a": [2, 3], "t": [2, 2], "w": weights}
    source = onnx_graph(tmp_path, nodes, constants, (1, 3, 16, 16))
    made = ToNcnn().run(source, StepContext(tmp_path / "work"))
    assert furthest(answer(made, pictures(1)[0]), answer(source, pictures(1)[0])) < 1e-5


@pytest.mark.parametrize("kind", ["ReduceSum", "ReduceMean"])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axis", [1, 3])
def test_a_reduction_over_one_dimension_is_over_that_one(kind: str, keep: int, axis: int, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["images"], ["relu"]),
        helper.make_node(kind, ["relu", "axes"], ["answer"], keepdims=keep),
    ]
    source = onnx_graph(tmp_path, nodes, {"axes": np.array([axis], np.int64)}, (1, 3, 16, 16))
    made = ToNcnn().run(source, StepContext(tmp_path / "work"))
    assert furthest(answer(made, pictures(1)[0]), answer(source, pictures(1)[0])) < 1e-5


def test_tiny_weights_are_no_zeros_in_16_bits(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(64, 3, 5, 5)).astype(np.float32) * 2e-5  # pixels are 0 to 255
    nodes = [helper.make_node("Conv", ["images", "w"], ["answer"])]
    source = onnx_graph(tmp_path, nodes, {"w": weights}, (1, 3, 16, 16))
    made = ToNcnnHalf().run(source, StepContext(tmp_path / "work"))
    assert furthest(answer(made, pictures(1)[0]), answer(source, pictures(1)[0])) < 5e-3
    assert made.size_bytes < weights.nbytes * 0.6


def test_16_bits_of_layers_whose_weights_we_can_t_read_are_the_converter_s(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(1, 3, 4, 16)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["images", "w"], ["product"]),
        helper.make_node("Relu", ["product"], ["answer"]),
    ]
    source = onnx_graph(tmp_path, nodes, {"w": np.broadcast_to(weights, (1, 3, 4, 16)).copy()}, (1, 3, 16, 4))
    made = ToNcnnHalf().run(source, StepContext(tmp_path / "work"))
    inputs = {"images": np.random.default_rng(1).random((1, 3, 16, 4), dtype=np.float32)}
    assert furthest(answer(made, inputs), answer(source, inputs)) < 5e-3


def test_an_operator_that_ncnn_lacks_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("TopK", ["images", "k"], ["answer", "places"])]
    source = onnx_graph(tmp_path, nodes, {"k": np.array([3], np.int64)}, (1, 3, 16, 16))
    with pytest.raises(StepError, match="TopK") as told:
        ToNcnn().run(source, StepContext(tmp_path / "work"))
    assert told.value.hint
    assert not list((tmp_path / "work").iterdir())


def test_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx", batch=4)
    with pytest.raises(StepError, match=r"'images' has shape \[4, 3, 16, 16\]; ncnn answers one picture at a time"):
        ToNcnn().run(source, StepContext(tmp_path / "work"))


def test_a_converter_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    check_killed(ToNcnn(), _big(tmp_path), tmp_path / "work", [])


def test_no_space_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    check_no_space(ToNcnn(), _big(tmp_path), tmp_path / "work", [])


@pytest.mark.parametrize("name", ["yolox_nano.onnx", "squeezenet_v1.1.onnx", "deeppcb_nano_320.onnx"])
def test_real_models_answer_as_their_source(name: str, shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "models" / name
    source: Any = OnnxSource().open(path, ModelSection(name="model", source=str(path)), tmp_path)
    made = ToNcnn().run(source, StepContext(tmp_path / "work"))
    spec = source.signature.inputs[0]
    inputs = {spec.name: 255 * np.random.default_rng(0).random((1, *spec.shape[1:]), dtype=np.float32)}
    assert furthest(answer(made, inputs), answer(source, inputs)) < 1e-4
