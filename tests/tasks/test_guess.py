from pathlib import Path
from typing import Any

import pytest

from ferryman.core.artifact import Artifact
from ferryman.core.plugins import find
from ferryman.core.signature import Signature
from ferryman.tasks.guess import Guess, TableHeader, guess_task
from tests.tasks.making import picture_model, signature


def _guess(model: Signature, folder: Path = Path("nowhere"), **metadata: str) -> Guess:
    guess = guess_task(Artifact(Path("m"), "any", model, "0" * 64), folder=folder, metadata=metadata)
    spec = find("tasks", guess.spec_toml["kind"]).cls.Spec.model_validate(guess.spec_toml)
    assert spec.kind == guess.spec_toml["kind"] and guess.reasons
    return guess


@pytest.mark.parametrize(
    ("size", "shape", "decoder", "classes"),
    [
        ((416, 416), (1, 3549, 85), "yolox", 80),
        ((320, 320), (1, 2000, 11), "yolox", 6),
        ((416, 416), (1, 10647, 85), "yolov5", 80),
        ((640, 640), (1, 25200, 85), "yolov5", 80),
        ((640, 640), (1, 84, 8400), "yolov8", 80),
        ((640, 640), (1, 8400, 84), "yolov8", 80),
        ((640, 480), (1, 7, 6300), "yolov8", 3),
        ((640, 640), (1, 300, 6), "end2end", None),
        ((640, 640), ("boxes", 6), "nms", None),
    ],
)
def test_a_decoder_follows_from_the_shapes(
    size: tuple[int, int], shape: Any, decoder: str, classes: int | None
) -> None:
    guess = _guess(picture_model(size, {"out": shape}))
    assert guess.spec_toml["decoder"] == decoder
    assert guess.spec_toml["input"]["size"] == list(size)
    if classes is not None:
        assert f"{classes} classes" in guess.reasons[0]


def test_the_guessed_section_fits_the_model(tmp_path: Path) -> None:
    for size, shape in (((416, 416), (1, 3549, 85)), ((640, 640), (1, 84, 8400)), ((64, 64), (1, 9))):
        model = picture_model(size, {"out": shape})
        plugin = find("tasks", _guess(model).spec_toml["kind"])
        spec = plugin.cls.Spec.model_validate(_guess(model).spec_toml).resolved(tmp_path)
        assert plugin.cls(spec, model).kind == spec.kind


def test_class_names_come_from_metadata_then_a_file_then_coco(tmp_path: Path) -> None:
    model = picture_model((640, 640), {"out": (1, 6, 8400)})
    assert _guess(model, names="{0: 'cat', 1: 'dog'}").spec_toml["labels"] == ["cat", "dog"]
    (tmp_path / "pets.names").write_text("cat\ndog\n", encoding="utf-8")
    assert _guess(model, tmp_path).spec_toml["labels"] == "pets.names"
    assert _guess(picture_model((640, 640), {"out": (1, 84, 8400)})).spec_toml["labels"] == "coco80"
    nameless = _guess(model)
    assert "labels" not in nameless.spec_toml and any("classes called" in question for question in nameless.questions)


@pytest.mark.parametrize("names", ["__import__('os')", "{", "{1: 'a'}", "(" * 500])
def test_strange_metadata_is_passed_over(names: str) -> None:
    assert "labels" not in _guess(picture_model((640, 640), {"out": (1, 6, 8400)}), names=names).spec_toml


def test_a_number_a_class_is_a_classifier() -> None:
    guess = _guess(picture_model((224, 224), {"logits": (1, 1000)}))
    assert guess.spec_toml["kind"] == "classify" and guess.spec_toml["activation"] == "softmax"
    assert guess.spec_toml["input"]["resize_short"] == 256
    assert _guess(picture_model((224, 224), {"prob": (1, 10, 1, 1)})).spec_toml["activation"] == "none"


def test_channels_last_and_grey_are_seen() -> None:
    model = signature({"x": ("uint8", (1, 28, 28, 1))}, {"scores": ("float32", (1, 10))})
    image = _guess(model).spec_toml["input"]
    assert image["layout"] == "NHWC" and image["channels"] == "GRAY" and image["size"] == [28, 28]


def test_boxes_scores_and_labels_apart_are_listed_boxes() -> None:
    outputs: Any = {"boxes": ("float32", ("n", 4)), "labels": ("int64", ("n",)), "scores": ("float32", ("n",))}
    guess = _guess(signature({"x": ("float32", (1, 3, 320, 320))}, outputs))
    assert guess.spec_toml["decoder"] == "nms" and any("first_class" in question for question in guess.questions)


def test_labels_with_probabilities_are_a_table() -> None:
    outputs: Any = {"label": ("int64", ("n",)), "probabilities": ("float32", ("n", 2))}
    assert _guess(signature({"f": ("float32", ("n", 6))}, outputs)).spec_toml == {"kind": "tabular"}
    named: Any = {"variable": ("float32", ("n", 1))}
    guess = _guess(signature({"f": ("float32", ("n", 6))}, named))
    assert guess.spec_toml["outputs"] == {"prediction": "variable"}


def test_anything_else_is_tensors() -> None:
    model = signature({"tokens": ("int64", ("n", "length"))}, {"hidden": ("float32", ("n", "length", 64))})
    assert _guess(model).spec_toml == {"kind": "tensor"}


TABLE = signature({"f": ("float32", ("n", 2))}, {"label": ("int64", ("n",)), "probabilities": ("float32", ("n", 2))})


@pytest.mark.parametrize(
    ("known", "header", "columns", "target"),
    [
        (["b", "a"], ["a", "truth", "b"], ["b", "a"], "truth"),
        (["b", "a"], [], ["b", "a"], None),
        (["a_1", "b"], ["b", "a 1", "kind"], ["a 1", "b"], "kind"),
        (None, ["Class", "a", "b"], ["a", "b"], "Class"),
        (None, ["a", "b", "kind"], ["a", "b"], "kind"),
        (None, ["a", "b", "c", "d"], None, None),
        (None, [], None, None),
    ],
)
def test_columns_and_target_come_from_the_model_or_else_the_table(
    known: list[str] | None, header: list[str], columns: list[str] | None, target: str | None
) -> None:
    loader = {"feature_names": known} if known else {}
    artifact = Artifact(Path("m"), "any", TABLE, "0" * 64, loader=loader)
    guess = guess_task(artifact, folder=Path("nowhere"), header=TableHeader(header))
    assert (guess.spec_toml.get("columns"), guess.target) == (columns, target)
    asked = any("order of training" in question for question in guess.questions)
    assert asked == (known is None), "an order that only the table tells is for the user to check"
