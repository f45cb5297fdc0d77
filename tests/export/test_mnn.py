from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from ferryman.core.artifact import Artifact
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import StepError
from ferryman.core.isolated import isolated
from ferryman.core.step import StepContext
from ferryman.export import mnn as converter
from ferryman.export.mnn import ToMNN, ToMNNHalf, ToMNNInt8
from ferryman.runtimes import mnn as runtime
from ferryman.sources.onnx import OnnxSource
from tests.export.edge import WATCHED, answer, check_killed, check_no_space, furthest, onnx_graph
from tests.optimize.making import make_convolutions, pictures

pytestmark = pytest.mark.toolchain("mnn")


def _big(folder: Path) -> Artifact:
    weights = np.random.default_rng(0).normal(size=(64, 3, 17, 17)).astype(np.float32)
    return onnx_graph(folder, [helper.make_node("Conv", ["images", "w"], ["answer"])], {"w": weights}, (1, 3, 20, 20))


@pytest.mark.parametrize(("step", "tolerance"), [(ToMNN(), 1e-5), (ToMNNHalf(), 5e-3), (ToMNNInt8(), 5e-2)])
def test_answers_are_the_sources(step: ToMNN, tolerance: float, tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    made = step.run(source, StepContext(tmp_path / "work"))
    assert made.signature == source.signature
    assert furthest(answer(made, pictures(1)[0]), answer(source, pictures(1)[0])) < tolerance


def test_16_bits_are_the_nearest_and_not_cut_off(tmp_path: Path) -> None:
    weights = np.full((8, 3, 3, 3), 1 + 2**-11 + 2**-12, np.float32)  # three quarters of the way to the next
    source = onnx_graph(tmp_path, [helper.make_node("Conv", ["images", "w"], ["answer"])], {"w": weights}, (1, 3, 8, 8))
    made = ToMNNHalf().run(source, StepContext(tmp_path / "work"))
    inputs = {"images": np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)}
    assert furthest(answer(made, inputs), answer(source, inputs)) < 3.5e-4
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["model.mnn"]


def test_scales_can_forget_outliers(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(8, 16, 3, 3)).astype(np.float32)
    weights[:, 0, 0, 0] = 20
    nodes = [helper.make_node("Conv", ["images", "w"], ["answer"])]
    source = onnx_graph(tmp_path, nodes, {"w": weights}, (1, 16, 8, 8))
    plain = ToMNNInt8().run(source, StepContext(tmp_path / "plain"))
    robust = ToMNNInt8(half_quadratic=True).run(source, StepContext(tmp_path / "robust"))
    assert plain.digest != robust.digest


def test_a_free_batch_stays_free(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    made = ToMNN().run(source, StepContext(tmp_path / "work"))
    several = {"images": np.concatenate([picture["images"] for picture in pictures(3)])}
    assert furthest(answer(made, several), answer(source, several)) < 1e-5


def test_nothing_reports_to_its_maker(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx", batch=1)
    program = converter._PROGRAM
    asked = {
        "source": str(source.path),
        "target": str(tmp_path / "model.mnn"),
        "scratch": str(tmp_path),
        "inputs": [spec.model_dump(mode="json") for spec in source.signature.inputs],
        "outputs": [spec.name for spec in source.signature.outputs],
        "half": False,
        "bits": 0,
    }
    loaded = {"path": asked["target"], "inputs": ["images"], "outputs": asked["outputs"], "threads": 1}
    with isolated("mnn", WATCHED) as worker:
        reply = worker.ask(
            "watch",
            converter=str(program),
            runtime=str(runtime._PROGRAM),
            asked=asked,
            loaded=loaded,
            inputs=dict(pictures(1)[0]),
        )
    assert "MNN" in reply["modules"]
    assert not [name for name in reply["modules"] if name.startswith(("MNN.tools", "aliyun"))]
    assert reply["seen"] == []
    assert furthest(reply["outputs"], answer(source, pictures(1)[0])) < 1e-5


def test_an_operator_that_mnn_lacks_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("NoSuchOperator", ["images"], ["answer"], domain="made.up")]
    source = make_convolutions(tmp_path / "model.onnx", batch=1)
    graph = _custom(source.path, nodes)
    with pytest.raises(StepError, match=r"MNN can't convert this model.*NoSuchOperator"):
        ToMNN().run(Artifact(graph, "onnx", source.signature, ""), StepContext(tmp_path / "work"))
    assert not list((tmp_path / "work").iterdir())


def _custom(path: Path, nodes: list[Any]) -> Path:
    import onnx

    model = onnx.load(path)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for output in model.graph.output:
        output.name = "answer"
    model.opset_import.append(helper.make_opsetid("made.up", 1))
    onnx.save(model, path)
    return path


def test_whole_numbers_of_64_bits_are_refused(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    spec = source.signature.inputs[0].model_copy(update={"dtype": "int64"})
    wide = Artifact(source.path, "onnx", source.signature.model_copy(update={"inputs": (spec,)}), "")
    with pytest.raises(StepError, match="input 'images' is int64; MNN takes float32"):
        ToMNN().run(wide, StepContext(tmp_path / "work"))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    made = ToMNN().run(make_convolutions(tmp_path / "model.onnx"), StepContext(tmp_path / "work"))
    made.path.write_bytes(b"damaged")
    with pytest.raises(StepError, match="Invalid model file"):
        answer(made, pictures(1)[0])


def test_a_converter_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    check_killed(ToMNN(), _big(tmp_path), tmp_path / "work", [], at_start=True)


def test_no_space_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    check_no_space(ToMNN(), _big(tmp_path), tmp_path / "work", [])


@pytest.mark.parametrize("name", ["yolox_nano.onnx", "squeezenet_v1.1.onnx", "deeppcb_nano_320.onnx"])
def test_real_models_answer_as_their_source(name: str, shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "models" / name
    source: Any = OnnxSource().open(path, ModelSection(name="model", source=str(path)), tmp_path)
    made = ToMNN().run(source, StepContext(tmp_path / "work"))
    spec = source.signature.inputs[0]
    inputs = {spec.name: 255 * np.random.default_rng(0).random((1, *spec.shape[1:]), dtype=np.float32)}
    assert furthest(answer(made, inputs), answer(source, inputs)) < 1e-3
