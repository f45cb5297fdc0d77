"""What is guessed for models that take pixels as they are: quantized files."""

from pathlib import Path
from typing import Any

import pytest

from ferryman.core.artifact import Artifact
from ferryman.core.errors import DataError
from ferryman.core.plugins import find
from ferryman.core.signature import Signature, TensorSpec
from ferryman.tasks.guess import guess_task
from ferryman.tasks.truths import number_of


def _guessed(dtype: str, shape: tuple[int, ...] = (1, 224, 224, 3), **loader: Any) -> dict[str, Any]:
    signature = Signature(
        inputs=(TensorSpec(name="input", dtype=dtype, shape=shape),),
        outputs=(TensorSpec(name="out", dtype="float32", shape=(1, 1001)),),
    )
    artifact = Artifact(Path("m"), "litert", signature, "0" * 64, loader=loader)
    spec: dict[str, Any] = guess_task(artifact, folder=Path("nowhere")).spec_toml
    assert find("tasks", spec["kind"]).cls.Spec.model_validate(spec)
    return spec


def test_bytes_are_fed_as_they_are() -> None:
    image = _guessed("uint8")["input"]
    assert image["layout"] == "NHWC"
    assert not {"scale", "mean", "std"} & image.keys()


def test_signed_bytes_are_fed_with_their_middle_at_nought() -> None:
    image = _guessed("int8")["input"]
    assert image["mean"] == [128.0]
    assert not {"scale", "std"} & image.keys()


def test_floats_still_get_the_usual_scaling() -> None:
    assert _guessed("float32")["input"]["scale"] == pytest.approx(1 / 255)


def test_what_the_source_says_of_its_last_operator_is_believed() -> None:
    assert _guessed("uint8", last_operators={"out": "Softmax"})["activation"] == "none"
    assert _guessed("uint8")["activation"] == "softmax"


LABELS = ("background", "tench, Tinca tinca", "great white shark, white shark", "crane", "crane")


def test_a_class_goes_by_one_of_its_names() -> None:
    assert number_of("tench", LABELS, "row 1") == 1
    assert number_of("white_shark", LABELS, "row 1") == 2
    assert number_of("Tinca Tinca", LABELS, "row 1") == 1


def test_a_name_of_two_classes_decides_nothing() -> None:
    with pytest.raises(DataError, match="neither a class number nor one of the labels"):
        number_of("CRANE", LABELS, "row 1")
