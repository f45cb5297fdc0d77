"""ONNX Runtime's WebAssembly build: in Node, and in a real Chromium with the page around it."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.core.artifact import Artifact, digest_path
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import InputError, StepError
from ferryman.core.limits import Limits
from ferryman.core.plugins import find, runtime_for
from ferryman.core.signature import Tensors
from ferryman.core.task import bind_task, infer_items
from ferryman.tasks.detect_spec import DetectSpec
from ferryman.tasks.image import ImageInput
from ferryman.tasks.picture import read_picture
from tests.optimize.making import artifact_of, context_of, make_convolutions, make_products, pictures, rows
from tests.runtimes.web_pages import assert_same_boxes, opened

pytestmark = pytest.mark.toolchain("web")
YOLOX = DetectSpec(decoder="yolox", labels="coco80", input=ImageInput(anchor="top-left", channels="BGR"))


def packed(source: Artifact, folder: Path) -> Artifact:
    artifact: Artifact = find("steps", "ort-web").require()().run(source, context_of(folder))
    return artifact


def answer(artifact: Artifact, inputs: Tensors) -> dict[str, Any]:
    session = runtime_for(artifact.format).require()().load(artifact, threads=1)
    try:
        told: dict[str, Any] = session.infer(inputs)
        assert getattr(session, "inference_s", 1) > 0
        return told
    finally:
        session.close()


def opened_source(path: Path, folder: Path) -> Artifact:
    source: Artifact = find("sources", "onnx").cls().open(path, ModelSection(name="m", source=str(path)), folder)
    return source


def test_onnx_is_still_answered_by_onnx_runtime_itself() -> None:
    assert runtime_for("onnx").name == "onnx"
    assert runtime_for("ort-web").name == "ort-web"


@pytest.mark.parametrize("batch", [1, 3])
def test_answers_in_node_are_those_of_the_source(tmp_path: Path, batch: int) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    inputs = {"images": np.concatenate([one["images"] for one in pictures(batch)])}
    wanted, got = answer(source, inputs), answer(packed(source, tmp_path / "web"), inputs)
    np.testing.assert_allclose(got["output"], wanted["output"], atol=1e-5)


def test_matrix_products_are_answered_too(tmp_path: Path) -> None:
    source = make_products(tmp_path / "model.onnx")
    wanted, got = answer(source, rows(1)[0]), answer(packed(source, tmp_path / "web"), rows(1)[0])
    np.testing.assert_allclose(got["logits"], wanted["logits"], atol=1e-5)


def test_the_folder_holds_all_that_a_page_needs_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    one, other = packed(source, tmp_path / "one"), packed(source, tmp_path / "other")
    names = {path.name for path in one.path.iterdir()}
    assert names == {"engine.js", "model.onnx", "ort.js", "ort.wasm", "package.json"}
    assert one.digest == other.digest == digest_path(one.path)
    assert 10_000_000 < one.size_bytes < 20_000_000


def test_packing_keeps_the_time_that_a_step_may_take(tmp_path: Path) -> None:
    hurried = replace(context_of(tmp_path / "web"), limits=Limits(time_s=0.001))
    with pytest.raises(StepError, match=r"stopped after 0\.001 s"):
        find("steps", "ort-web").require()().run(make_products(tmp_path / "model.onnx"), hurried)


def test_an_operator_that_the_engine_lacks_is_named(tmp_path: Path) -> None:
    from onnx import load, save

    source = make_convolutions(tmp_path / "model.onnx")
    graph = load(source.path)
    graph.graph.node[3].op_type, graph.graph.node[3].domain = "Vanish", "elsewhere"
    graph.opset_import.add(domain="elsewhere", version=1)
    save(graph, tmp_path / "strange.onnx")
    with pytest.raises(StepError, match="Vanish"):
        packed(Artifact(tmp_path / "strange.onnx", "onnx", source.signature, ""), tmp_path / "web")
    assert not (tmp_path / "web" / "model").exists()


def test_a_shape_that_the_graph_can_t_take_is_the_user_s_error(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx", batch=1)
    made = packed(source, tmp_path / "web")
    session = runtime_for("ort-web").require()().load(made, threads=1)
    with pytest.raises(InputError):
        session.infer({"images": np.zeros((2, 3, 16, 16), np.float32)})
    assert session.infer(pictures(1)[0])
    session.close()


@pytest.mark.slow
def test_chromium_finds_the_same_boxes_as_python_on_twenty_photographs(shared_data: Path, tmp_path: Path) -> None:
    source = opened_source(shared_data / "models" / "yolox_nano.onnx", tmp_path / "opened")
    compare_in_chromium(packed(source, tmp_path / "web"), source, shared_data)


def compare_in_chromium(made: Artifact, source: Artifact, shared_data: Path) -> None:
    photographs = sorted((shared_data / "coco128_val" / "images").iterdir())[:20]
    decoded = [read_picture(path, name=path.name) for path in photographs]
    spec = YOLOX.resolved(shared_data)
    session = runtime_for("onnx").require()().load(source, threads=1)
    wanted = infer_items(bind_task(spec, source.signature), session, decoded)
    session.close()
    assert sum(len([score for score in one["scores"] if score >= 0.25]) for one in wanted) > 40
    with opened(made.path, spec, made.signature) as page:
        for picture, want in zip(decoded, wanted, strict=True):
            assert_same_boxes(want, page.ask(picture)["answer"])
        assert page.page.faults == []


@pytest.mark.slow
def test_a_chosen_picture_is_drawn_with_its_boxes(shared_data: Path, tmp_path: Path) -> None:
    source = opened_source(shared_data / "models" / "yolox_nano.onnx", tmp_path / "opened")
    made = packed(source, tmp_path / "web")
    photograph = shutil.copy(shared_data / "coco128_val" / "images" / "000000000785.jpg", tmp_path)
    with opened(made.path, YOLOX.resolved(tmp_path), made.signature) as page:
        page.page.choose_file("file", Path(photograph))
        page.page.until("document.getElementById('status').textContent.endsWith('found')")
        assert "person" in page.page.text("found")
        assert page.page.text("model").endswith(" ms")
        assert page.page.run("document.getElementById('canvas').width") > 300
        assert page.page.faults == []


def test_a_table_s_page_takes_json(tmp_path: Path) -> None:
    from ferryman.tasks.tensor import TensorSection

    source = make_products(tmp_path / "model.onnx")
    with opened(packed(source, tmp_path / "web").path, TensorSection(), source.signature) as page:
        page.page.run("document.querySelector('#texts button').click()")
        page.page.until("document.getElementById('status').textContent === 'Answered.'")
        assert '"logits"' in page.page.text("answer")
    assert artifact_of(source.path).digest == source.digest
