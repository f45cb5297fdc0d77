"""TensorFlow: SavedModels in its own Python, TensorFlow.js in Node and in a real Chromium."""

import json
import shutil
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from ferryman.core.artifact import Artifact, digest_path
from ferryman.core.errors import InputError, SourceError, StepError
from ferryman.core.limits import Limits
from ferryman.core.plugins import find, runtime_for
from ferryman.core.signature import Array
from ferryman.core.task import TaskSpec
from ferryman.tasks.tensor import TensorSection
from tests.optimize.making import artifact_of, context_of, make_convolutions, make_products, make_tree, rows
from tests.runtimes.test_ortweb import answer, compare_in_chromium, opened_source
from tests.runtimes.web_pages import opened

pytestmark = pytest.mark.toolchain("tensorflow", "tfjs")
TENSORS: TaskSpec = TensorSection()


def photographs(count: int) -> dict[str, Array]:
    return {"images": np.random.default_rng(0).random((count, 3, 24, 24), dtype=np.float32)}


def saved(source: Artifact, folder: Path) -> Artifact:
    artifact: Artifact = find("steps", "tf-savedmodel").require()().run(source, context_of(folder))
    return artifact


def for_js(source: Artifact, folder: Path) -> Artifact:
    artifact: Artifact = find("steps", "tfjs").require()().run(source, context_of(folder))
    return artifact


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_convolutions(tmp_path_factory.mktemp("source") / "model.onnx", size=24)


@pytest.fixture(scope="module")
def model(source: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return saved(source, tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="module")
def web(model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return for_js(model, tmp_path_factory.mktemp("web"))


def test_both_keep_the_source_s_names_layout_and_free_batch(source: Artifact, model: Artifact, web: Artifact) -> None:
    assert source.signature == model.signature == web.signature
    inputs = photographs(2)
    wanted = answer(source, inputs)["output"]
    for made in (model, web):
        got = answer(made, inputs)["output"]
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_equal_models_make_equal_bytes(source: Artifact, model: Artifact, web: Artifact, tmp_path: Path) -> None:
    again = saved(source, tmp_path / "saved")
    assert again.digest == model.digest == digest_path(model.path)
    assert for_js(again, tmp_path / "web").digest == web.digest


def test_names_that_tensorflow_can_t_have_are_kept_all_the_same(source: Artifact, tmp_path: Path) -> None:
    from onnx import load, save

    graph = load(source.path).graph
    file = load(source.path)
    for node in file.graph.node:
        node.input[:] = ["in/put:0" if name == "images" else name for name in node.input]
        node.output[:] = ["out put.1" if name == "output" else name for name in node.output]
    file.graph.input[0].name, file.graph.output[0].name = "in/put:0", "out put.1"
    save(file, tmp_path / "model.onnx")
    renamed = artifact_of(tmp_path / "model.onnx")
    assert graph.input[0].name == "images"
    made = saved(renamed, tmp_path / "saved")
    inputs = {"in/put:0": photographs(1)["images"]}
    for one in (made, for_js(made, tmp_path / "web")):
        np.testing.assert_allclose(answer(one, inputs)["out put.1"], answer(renamed, inputs)["out put.1"], atol=1e-4)


def test_matrix_products_become_both(tmp_path: Path) -> None:
    source = make_products(tmp_path / "model.onnx")
    made = saved(source, tmp_path / "saved")
    for one in (made, for_js(made, tmp_path / "web")):
        np.testing.assert_allclose(answer(one, rows(1)[0])["logits"], answer(source, rows(1)[0])["logits"], atol=1e-5)


def test_a_graph_whose_axes_have_equal_sizes_is_converted_operator_by_operator(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx", size=16)  # 16 channels at 16 x 16
    made = saved(source, tmp_path / "saved")
    inputs = {"images": np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)}
    for one in (made, for_js(made, tmp_path / "web")):
        np.testing.assert_allclose(answer(one, inputs)["output"], answer(source, inputs)["output"], atol=1e-5)


def test_the_shipped_detector_has_the_same_boxes_in_tensorflow_js(tmp_path: Path) -> None:
    with as_file(files("ferryman.demo") / "factory_nano.onnx") as path:
        source = artifact_of(Path(shutil.copy(path, tmp_path / "model.onnx")))
    made = for_js(saved(source, tmp_path / "saved"), tmp_path / "web")
    inputs = {"images": np.random.default_rng(0).random((1, 3, 320, 320), dtype=np.float32)}
    wanted = answer(source, inputs)["output0"]
    assert np.abs(answer(made, inputs)["output0"] - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_a_tree_is_refused_by_its_operator_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="TreeEnsembleRegressor") as caught:
        saved(make_tree(tmp_path / "model.onnx"), tmp_path / "saved")
    assert caught.value.hint
    assert not (tmp_path / "saved" / "model").exists()


def test_an_operator_that_has_no_way_with_free_sizes_is_named_with_the_way_out(tmp_path: Path) -> None:
    """With sizes at hand it is computed; onnx2tf mixes up 224 channels with a height that it takes to be 224, too."""
    nodes = [
        helper.make_node("MaxPool", ["images"], ["less"], "pool", kernel_shape=[3, 3], auto_pad="SAME_UPPER"),
        helper.make_node("Reshape", ["less", "sizes"], ["output"]),
    ]
    images = helper.make_tensor_value_info("images", 1, ["n", 224, "h", "w"])
    output = helper.make_tensor_value_info("output", 1, ["n", 224, "places"])
    sizes = helper.make_tensor("sizes", 7, [3], [0, 224, -1])
    graph = helper.make_graph(nodes, "same", [images], [output], [sizes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(StepError, match=r"no other way for MaxPool \('pool'\)") as caught:
        saved(artifact_of(tmp_path / "model.onnx"), tmp_path / "saved")
    assert "with fixed sizes" in caught.value.hint


@pytest.mark.parametrize("step", ["tf-savedmodel", "tfjs"])
def test_converting_keeps_the_time_that_a_step_may_take(
    step: str, source: Artifact, model: Artifact, tmp_path: Path
) -> None:
    hurried = replace(context_of(tmp_path), limits=Limits(time_s=0.001))
    with pytest.raises(StepError, match=r"stopped after 0\.001 s"):
        find("steps", step).require()().run(source if step == "tf-savedmodel" else model, hurried)


def test_a_shape_that_the_graph_can_t_take_is_the_user_s_error(model: Artifact, tmp_path: Path) -> None:
    session = runtime_for("tf-savedmodel").require()().load(model, threads=1)
    with pytest.raises(InputError):
        session.infer({"images": np.zeros((1, 3, 25, 24), np.float32)})
    assert session.infer(photographs(1))
    session.close()


def test_a_folder_that_is_none_is_refused(model: Artifact, tmp_path: Path) -> None:
    for name in ("tf-savedmodel", "tfjs"):
        with pytest.raises(SourceError):
            runtime_for(name).require()().load(Artifact(tmp_path, name, model.signature, ""), threads=1)


def test_the_folder_names_its_nodes_and_holds_the_engine(web: Artifact) -> None:
    about = json.loads((web.path / "model.json").read_text(encoding="utf-8"))
    assert [port["name"] for port in about["userDefinedMetadata"]["ferryman"]["inputs"]] == ["images"]
    assert {"engine.js", "tf-core.js", "tfjs-backend-wasm-simd.wasm"} <= {path.name for path in web.path.iterdir()}
    assert web.size_bytes < 3_000_000


def test_a_table_s_page_answers_in_chromium(tmp_path: Path) -> None:
    source = make_products(tmp_path / "model.onnx")
    made = for_js(saved(source, tmp_path / "saved"), tmp_path / "web")
    with opened(made.path, TENSORS, source.signature) as page:
        page.page.run("document.querySelector('#texts button').click()")
        page.page.until("document.getElementById('status').textContent === 'Answered.'")
        assert '"logits"' in page.page.text("answer")
        assert page.page.faults == []


@pytest.mark.slow
def test_chromium_finds_the_same_boxes_as_python_on_twenty_photographs(shared_data: Path, tmp_path: Path) -> None:
    source = opened_source(shared_data / "models" / "yolox_nano.onnx", tmp_path / "opened")
    compare_in_chromium(for_js(saved(source, tmp_path / "saved"), tmp_path / "web"), source, shared_data)
