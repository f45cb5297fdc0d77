"""A task that was put into a graph is set beside the separate one: equal answers, or the stage that makes others."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.build.making import make_detector, write_pictures

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.proof import CandidateProof
from ferryman.core.task import TaskSpec
from ferryman.export.in_graph import JOINERS
from ferryman.runtimes.onnx import OnnxSession
from ferryman.tasks.detect_spec import DetectSpec, Suppression
from ferryman.tasks.image import ImageInput
from ferryman.tasks.javascript.bound import bind_spec
from ferryman.verify.in_graph import STEP, examine_in_graph

Spoil = Callable[[dict[str, Any]], None]


@dataclass
class Squares:
    """Join a small detector with its task, rightly or wrongly, and examine what came of it."""

    folder: Path
    bare: Artifact
    spec: TaskSpec

    def examine(self, spoil: Spoil | None = None, *, other: Artifact | None = None, scope: Any = "pre+post") -> Any:
        bound = bind_spec(self.spec, self.bare.signature)
        if spoil:
            spoil(bound)
        whole = JOINERS["onnx"](other or self.bare, bound, scope, self.folder)
        whole = Artifact(whole.path, "onnx", whole.signature, whole.digest, made_by=(STEP,))
        line = CandidateProof(name="squares-in-graph", format="onnx", precision="fp32", status="failed")
        pictures = sorted((self.folder / "pictures").glob("*.png"))
        return examine_in_graph(line, self.spec, (self.bare, whole), pictures, threads=1)


def open_model(path: Path) -> Artifact:
    return Artifact(path, "onnx", OnnxSession(path, threads=1).signature, digest_file(path))


@pytest.fixture
def squares(tmp_path: Path) -> Squares:
    write_pictures(tmp_path / "pictures", count=5, seed=1, has_labels=False)
    spec = DetectSpec(
        decoder="yolov8",
        labels=("red", "green"),
        input=ImageInput(fit="stretch", scale=1 / 255),
        nms=Suppression(iou=0.5),
    )
    return Squares(tmp_path, open_model(make_detector(tmp_path / "squares.onnx")), spec)


@pytest.mark.parametrize("scope", ["pre", "pre+post"])
def test_the_same_task_in_the_graph_gives_the_same_answers(squares: Squares, scope: Any) -> None:
    proof = squares.examine(scope=scope)
    assert (proof.status, proof.reason) == ("accepted", "")
    assert proof.agreement["unmatched"] == proof.agreement["max_iou_loss"] == 0
    assert proof.agreement["max_score_diff"] < 1e-6
    assert proof.parity.max_abs == {"images": 0.0}
    assert proof.steps == (STEP,)


def test_other_pixels_are_blamed_on_what_comes_before_the_model(squares: Squares) -> None:
    def shift(bound: dict[str, Any]) -> None:
        bound["input"]["shift"] = [0.4]

    proof = squares.examine(shift)
    assert (proof.status, proof.parity.max_abs["images"]) == ("refused", pytest.approx(0.4))
    assert "'pre' diverges" in proof.reason


def test_other_boxes_are_blamed_on_what_comes_after_it(squares: Squares) -> None:
    def keep_few(bound: dict[str, Any]) -> None:
        bound["nms"]["max"] = 1

    proof = squares.examine(keep_few)
    assert (proof.status, proof.agreement["unmatched"] > 0) == ("refused", True)
    assert "'post' diverges" in proof.reason


def test_another_model_is_blamed_itself(squares: Squares) -> None:
    import onnx

    model = onnx.load(squares.bare.path)
    (weights,) = [each for each in model.graph.initializer if each.name == "class_w"]
    weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) * 0.9, "class_w"))
    onnx.save(model, squares.folder / "other.onnx")
    proof = squares.examine(other=open_model(squares.folder / "other.onnx"))
    assert proof.status == "refused"
    assert "'model' diverges" in proof.reason
