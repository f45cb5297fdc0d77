"""Postprocessing as a graph: the same answers from the same outputs of the model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.core.signature import Array
from ferryman.export.in_graph.picture import PLACEMENT, name_in_graph
from ferryman.tasks.classify import ClassifySpec
from ferryman.tasks.detect_spec import DetectOutputs, DetectSpec, Suppression
from tests.export.in_graph_cases import ask_openvino, assert_same_boxes, finished, parts_of, split
from tests.tasks.making import noise, picture_model, signature


def _grid(rows: int, classes: int, *, batch: int = 1) -> Array:
    generator = np.random.default_rng(0)
    output = generator.random((batch, rows, 5 + classes), dtype=np.float32)
    output[..., :2] *= 2
    output[..., 2:4] = generator.normal(1, 0.6, (batch, rows, 2))
    output[..., 4] **= 4
    return output


def _pixels(*shape: int) -> Array:
    """Give boxes of up to 40 pixels in a picture of 64 x 96, and scores."""
    generator = np.random.default_rng(1)
    rows = generator.random(shape, dtype=np.float32)
    rows[..., :4] *= [96, 64, 40, 40]
    return rows


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("agnostic", [False, True])
def test_a_yolox_grid_becomes_the_same_boxes(opset: int, multi_label: bool, agnostic: bool) -> None:
    nms = Suppression(multi_label=multi_label, agnostic=agnostic, score=0.2, max=60)
    spec = DetectSpec(decoder="yolox", nms=nms, labels=("a", "b", "c"))
    model = picture_model((64, 96), {"output": (1, 126, 8)})
    (wanted,), (got,) = finished(spec, model, {"output": _grid(126, 3)}, noise(50, 80), opset=opset)
    assert len(wanted["boxes"]) > 10
    assert_same_boxes(wanted, got)


@pytest.mark.parametrize(("decoder", "shape"), [("yolov5", (1, 60, 9)), ("yolov8", (1, 8, 60)), ("yolov8", (1, 60, 8))])
@pytest.mark.parametrize("fit", ["letterbox", "stretch", "crop"])
def test_rows_of_pixels_become_the_same_boxes_in_the_picture(decoder: Any, shape: tuple[int, ...], fit: str) -> None:
    labels = ("a", "b", "c", "d")
    raw: dict[str, Any] = {"kind": "detect", "decoder": decoder, "labels": labels, "input": {"fit": fit}}
    spec = DetectSpec.model_validate({**raw, "nms": {"score": 0.3, "max": 12}})
    rows = _pixels(1, 60, 9 if decoder == "yolov5" else 8)
    output = rows if shape[1] == 60 else rows.transpose(0, 2, 1)
    (wanted,), (got,) = finished(spec, picture_model((64, 96), {"out": shape}), {"out": output}, noise(130, 77))
    assert 3 < len(wanted["boxes"]) <= 12
    assert_same_boxes(wanted, got)


def test_boxes_of_several_pictures_are_told_apart_each_with_its_own_limit() -> None:
    nms = Suppression(score=0.05, max=7)
    spec = DetectSpec(decoder="yolox", nms=nms, labels=("a", "b"))
    model = signature({"x": ("float32", ("n", 3, 64, 96))}, {"output": ("float32", ("n", 126, 7))})
    output = _grid(126, 2, batch=3)
    output[1, :, 4] = 0  # nothing to be found in the second
    wanted, got = finished(spec, model, {"output": output}, *(noise(50, 80, seed) for seed in range(3)))
    assert [len(answer["boxes"]) for answer in wanted] == [7, 0, 7]
    for one, other in zip(wanted, got, strict=True):
        assert_same_boxes(one, other)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
@pytest.mark.parametrize(
    ("rows", "iou"),
    [
        # Sides below 0 (no area: it overlaps none), then two that overlap as much as allowed.
        ([[70, 30, -20, -20, 0.9], [70, 30, 20, 20, 0.8], [20, 20, 20, 20, 0.7], [20, 25, 20, 10, 0.6]], 0.5),
        ([[20, 20, 20, 20, 0.9], [60, 20, 20, 20, 0.8]], 0.0),
    ],
)
def test_what_overlaps_no_more_than_allowed_is_kept(rows: Any, iou: float, engine: str, tmp_path: Path) -> None:
    spec = DetectSpec(decoder="yolov8", labels=("a",), nms=Suppression(score=0.1, iou=iou))
    output = np.asarray([rows], np.float32).transpose(0, 2, 1)
    model = picture_model((64, 96), {"o": output.shape})
    (wanted,), (got,) = finished(spec, model, {"o": output}, noise(64, 96))
    assert wanted["boxes"]
    if engine == "openvino":
        placement = np.asarray([1, 1, 0, 0, 96, 64], np.float32)
        (asked,) = ask_openvino(
            parts_of(spec, model).after, [{name_in_graph("o"): output, PLACEMENT: placement}], tmp_path
        )
        (got,) = split(asked, 1)
    assert_same_boxes(wanted, got)


def test_boxes_that_are_not_finite_or_have_no_area_are_left_out() -> None:
    spec = DetectSpec(decoder="yolov8", labels=("a",), nms=Suppression(score=0.1))
    rows = np.asarray([[20, 20, 8, 8, 0.9], [np.nan, 20, 8, 8, 0.8], [30, 30, 0, 8, 0.7], [-90, 20, 8, 8, 0.6]])
    output = np.asarray(rows[None].transpose(0, 2, 1), np.float32)
    (wanted,), (got,) = finished(spec, picture_model((64, 96), {"o": (1, 5, 4)}), {"o": output}, noise(64, 96))
    assert len(wanted["boxes"]) == 1
    assert_same_boxes(wanted, got)


@pytest.mark.parametrize("box_format", ["xyxy", "yxyx", "xywh", "cxcywh"])
@pytest.mark.parametrize("shape", [(1, 20, 6), (20, 6)])
def test_listed_rows_become_the_same_boxes(box_format: Any, shape: tuple[int, ...]) -> None:
    spec = DetectSpec(decoder="nms", box_format=box_format, normalized=True, first_class=1, nms=Suppression(score=0.2))
    rows = np.random.default_rng(2).random(shape, dtype=np.float32)
    rows[..., 5] = np.arange(20) % 4 - 1
    (wanted,), (got,) = finished(spec, picture_model((64, 96), {"rows": shape}), {"rows": rows}, noise(50, 80))
    assert wanted["boxes"]
    assert_same_boxes(wanted, got)


@pytest.mark.parametrize("has_batch", [True, False])
def test_separate_lists_become_the_same_boxes(has_batch: bool) -> None:
    generator = np.random.default_rng(3)
    outputs: dict[str, Array] = {
        "boxes": np.sort(generator.random((1, 20, 4), dtype=np.float32) * 60, axis=2)[..., [0, 1, 2, 3]],
        "scores": generator.random((1, 20), dtype=np.float32),
        "classes": generator.integers(0, 3, (1, 20)).astype(np.float32),
        "num": np.asarray([13], np.float32),
    }
    if not has_batch:
        outputs = {name: value if name == "num" else value[0] for name, value in outputs.items()}
    named = DetectOutputs(boxes="boxes", scores="scores", classes="classes", count="num")
    spec = DetectSpec(decoder="nms", outputs=named)
    model = picture_model((64, 96), {name: value.shape for name, value in outputs.items()})
    (wanted,), (got,) = finished(spec, model, outputs, noise(50, 80))
    assert 3 < len(wanted["boxes"]) <= 13
    assert_same_boxes(wanted, got)


@pytest.mark.parametrize("activation", ["none", "softmax", "sigmoid"])
@pytest.mark.parametrize(("shape", "top_k"), [((2, 9), 5), ((2, 9, 1, 1), 5), ((2, 3), 5)])
def test_classes_are_ranked_alike(activation: Any, shape: tuple[int, ...], top_k: int) -> None:
    model = signature({"x": ("float32", (2, 3, 24, 24))}, {"out": ("float32", shape)})
    output = np.random.default_rng(4).normal(0, 3, shape).astype(np.float32)
    spec = ClassifySpec(activation=activation, top_k=top_k)
    wanted, got = finished(spec, model, {"out": output}, noise(30, 30), noise(30, 30, 1))
    for one, other in zip(wanted, got, strict=True):
        assert other["classes"] == one["classes"]
        np.testing.assert_allclose(other["scores"], one["scores"], atol=2e-6)
