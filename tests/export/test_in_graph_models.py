"""Real models with their task in the graph: the same boxes and classes on some pictures.

`python benchmarks/in_graph.py` does it on 20 in both engines, and prints by how much they differ.
"""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import cv2
import onnx
import pytest

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.errors import StepError
from ferryman.core.proof import CandidateProof
from ferryman.core.step import StepContext
from ferryman.core.task import TaskSpec
from ferryman.demo.belt import LABELS, write_dataset
from ferryman.export.in_graph import JOINERS
from ferryman.export.openvino import ToOpenVINO
from ferryman.runtimes.onnx import OnnxSession
from ferryman.tasks.classify import ClassifySpec
from ferryman.tasks.detect_spec import DetectSpec
from ferryman.tasks.image import ImageInput
from ferryman.tasks.javascript.bound import bind_spec
from ferryman.verify.in_graph import STEP, examine_in_graph
from tests.build.making import make_detector

_COUNT = 6
ENGINES = pytest.mark.parametrize("engine", ["onnx", "openvino"])


def open_model(path: Path) -> Artifact:
    return Artifact(path, "onnx", OnnxSession(path, threads=1).signature, digest_file(path))


def join(bare: Artifact, spec: TaskSpec, folder: Path) -> Artifact:
    made = JOINERS[bare.format](bare, bind_spec(spec, bare.signature), "pre+post", folder)
    return replace(made, made_by=(STEP,))


def examine(path: Path, spec: TaskSpec, pictures: list[Path], engine: str, folder: Path) -> CandidateProof:
    bare = open_model(path)
    if engine == "openvino":
        bare = ToOpenVINO().run(bare, StepContext(folder))
        folder = folder / "whole"
        folder.mkdir()
    line = CandidateProof(name="in-graph", format=engine, precision="fp32", status="failed")
    proof = examine_in_graph(line, spec, (bare, join(bare, spec, folder)), pictures, threads=2)
    if engine == "onnx":
        assert proof.parity is not None
        assert set(proof.parity.max_abs.values()) == {0.0}, "the model gets the same numbers, to the last bit"
    return proof


@pytest.mark.slow
def test_yolox_finds_the_same_boxes(shared_data: Path, tmp_path: Path) -> None:
    image = ImageInput(anchor="top-left", channels="BGR")
    spec = DetectSpec(decoder="yolox", labels="coco80", input=image).resolved(tmp_path)
    pictures = sorted((shared_data / "coco128_val" / "images").glob("*.jpg"))[:_COUNT]
    proof = examine(shared_data / "models" / "yolox_nano.onnx", spec, pictures, "onnx", tmp_path)
    assert (proof.status, proof.reason) == ("accepted", "")
    assert proof.agreement["unmatched"] == 0
    assert proof.agreement["max_iou_loss"] < 0.01
    assert proof.agreement["max_score_diff"] < 1e-4


@ENGINES
def test_the_shipped_detector_finds_the_same_boxes(tmp_path: Path, engine: str) -> None:
    write_dataset(tmp_path / "belt", count=_COUNT, seed=2)
    spec = DetectSpec(decoder="yolov8", labels=tuple(LABELS), input=ImageInput(scale=1 / 255))
    pictures = sorted((tmp_path / "belt" / "images").glob("*.jpg"))
    for path in pictures:  # else they would be of the model's own size
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (500, 430), interpolation=cv2.INTER_CUBIC))
    proof = examine(Path(str(files("ferryman.demo") / "factory_nano.onnx")), spec, pictures, engine, tmp_path)
    assert (proof.status, proof.reason) == ("accepted", "")
    assert proof.agreement["max_iou_loss"] < 0.01
    assert proof.agreement["max_score_diff"] < 1e-4


@pytest.mark.slow
def test_squeezenet_ranks_the_same_classes(shared_data: Path, tmp_path: Path) -> None:
    spec = ClassifySpec(input=ImageInput(fit="stretch", channels="BGR", mean=(104, 117, 123)))
    pictures = sorted((shared_data / "imagenet200").glob("*.jpg"))[:_COUNT]
    proof = examine(shared_data / "models" / "squeezenet_v1.1.onnx", spec, pictures, "onnx", tmp_path)
    assert (proof.status, proof.agreement["label_changed"]) == ("accepted", 0)
    assert proof.agreement["max_score_diff"] < 1e-4


def squares(folder: Path, *, opset: int = 17) -> tuple[Artifact, TaskSpec]:
    bare = open_model(make_detector(folder / "squares.onnx", opset=opset))
    return bare, DetectSpec(decoder="yolov8", labels=("red", "green"), input=ImageInput(fit="stretch", scale=1 / 255))


@ENGINES
def test_equal_models_are_joined_to_equal_bytes(tmp_path: Path, engine: str) -> None:
    bare, spec = squares(tmp_path)
    if engine == "openvino":
        bare = ToOpenVINO().run(bare, StepContext(tmp_path))
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    assert join(bare, spec, tmp_path / "one").digest == join(bare, spec, tmp_path / "other").digest


def test_a_model_of_an_older_opset_is_brought_to_one_that_knows_the_operators(tmp_path: Path) -> None:
    bare, spec = squares(tmp_path, opset=11)
    joined = onnx.load(join(bare, spec, tmp_path).path)
    assert [entry.version for entry in joined.opset_import] == [13]


def test_a_model_whose_tensors_have_the_names_of_the_wholes_is_joined_all_the_same(tmp_path: Path) -> None:
    bare, spec = squares(tmp_path)
    model = onnx.load(bare.path)
    taken = {"images": "pictures", "output": "scores", "scores": "classes"}
    for node in model.graph.node:
        node.input[:] = [taken.get(name, name) for name in node.input]
        node.output[:] = [taken.get(name, name) for name in node.output]
    model.graph.input[0].name, model.graph.output[0].name = "pictures", "scores"
    onnx.save(model, tmp_path / "named.onnx")
    named = open_model(tmp_path / "named.onnx")
    whole = OnnxSession(join(named, spec, tmp_path).path, threads=1)
    assert [port.name for port in whole.signature.inputs] == ["pictures"]
    assert [port.name for port in whole.signature.outputs] == ["boxes", "scores", "classes", "picture_index"]


def test_a_model_that_lists_its_weights_among_its_inputs_is_joined(tmp_path: Path) -> None:
    bare, spec = squares(tmp_path)
    model = onnx.load(bare.path)
    weights = [
        onnx.helper.make_tensor_value_info(each.name, each.data_type, each.dims) for each in model.graph.initializer
    ]
    images = model.graph.input.pop()
    model.graph.input.extend([*weights, images])
    onnx.save(model, tmp_path / "listed.onnx")
    whole = OnnxSession(join(open_model(tmp_path / "listed.onnx"), spec, tmp_path).path, threads=1)
    assert [port.name for port in whole.signature.inputs] == ["pictures"]


def test_a_model_that_cannot_be_brought_to_a_newer_opset_says_the_way_out(tmp_path: Path) -> None:
    bare, spec = squares(tmp_path)
    model = onnx.load(bare.path)
    model.opset_import[0].version = 6
    model.graph.node[0].op_type = "Upsample"
    onnx.save(model, tmp_path / "old.onnx")
    with pytest.raises(StepError, match="is of opset 6, and can't be made one of 13") as told:
        join(replace(bare, path=tmp_path / "old.onnx"), spec, tmp_path)
    assert told.value.hint == "export it again with opset 17"
