from typing import Any

import numpy as np
import pytest

from ferryman.core.errors import ConfigError
from ferryman.core.signature import Signature
from ferryman.tasks.boxes import Boxes
from ferryman.tasks.decoders import bind_decoder
from ferryman.tasks.detect_spec import DetectSpec
from tests.tasks.making import picture_model, signature

SIZE = (64, 96)
CELLS = 8 * 12 + 4 * 6 + 2 * 3
WANTED = [10.0, 20.0, 30.0, 50.0]


def _decode(spec: DetectSpec, model: Signature, outputs: dict[str, Any], classes: int | None = 3) -> list[Boxes]:
    return list(bind_decoder(spec, model, SIZE, classes).decode(outputs))


def _check(boxes: Boxes, score: float, number: int) -> None:
    np.testing.assert_allclose(boxes.corners, [WANTED], atol=1e-4)
    np.testing.assert_allclose(boxes.scores, [score], atol=1e-6)
    assert boxes.classes.tolist() == [number]


def test_yolox_boxes_are_offsets_in_their_grids() -> None:
    model = picture_model(SIZE, {"out": (1, CELLS, 8)})
    out = np.zeros((1, CELLS, 8), np.float32)
    # Cell (column 1, row 2) of the 16-pixel grid, whose rows follow the 96 of the 8-pixel grid.
    row = 96 + 2 * 6 + 1
    out[0, row, :4] = [20 / 16 - 1, 35 / 16 - 2, np.log(20 / 16), np.log(30 / 16)]
    out[0, row, 4:] = [0.8, 0.1, 0.2, 0.5]
    (boxes,) = _decode(DetectSpec(decoder="yolox"), model, {"out": out})
    _check(boxes, 0.4, 2)


def test_yolox_strides_can_be_given() -> None:
    model = picture_model(SIZE, {"out": (1, 96 + 6, 8)})
    with pytest.raises(ConfigError, match="another number of cells"):
        bind_decoder(DetectSpec(decoder="yolox"), model, SIZE, 3)
    bind_decoder(DetectSpec(decoder="yolox", strides=(8, 32)), model, SIZE, 3)


def test_yolov5_boxes_are_pixels_with_objectness() -> None:
    out = np.zeros((1, 7, 8), np.float32)
    out[0, 3] = [20, 35, 20, 30, 0.5, 0.1, 0.9, 0.3]
    (boxes,) = _decode(DetectSpec(decoder="yolov5"), picture_model(SIZE, {"out": (1, 7, 8)}), {"out": out})
    _check(boxes, 0.45, 1)


@pytest.mark.parametrize("is_transposed", [True, False])
def test_yolov8_boxes_are_pixels_without_objectness_either_way_round(is_transposed: bool) -> None:
    out = np.zeros((1, 9, 7), np.float32)
    out[0, 4] = [20, 35, 20, 30, 0.1, 0.9, 0.3]
    out = out.transpose(0, 2, 1) if is_transposed else out
    (boxes,) = _decode(DetectSpec(decoder="yolov8"), picture_model(SIZE, {"out": out.shape}), {"out": out})
    _check(boxes, 0.9, 1)


def test_multi_label_gives_a_place_all_of_its_classes() -> None:
    out = np.zeros((1, 7, 9), np.float32)
    out[0, :, 4] = [20, 35, 20, 30, 0.1, 0.9, 0.3]
    spec = DetectSpec.model_validate({"decoder": "yolov8", "nms": {"multi_label": True, "score": 0.2}})
    (boxes,) = _decode(spec, picture_model(SIZE, {"out": (1, 7, 9)}), {"out": out})
    assert boxes.classes.tolist() == [1, 2]


@pytest.mark.parametrize("decoder", ["end2end", "nms"])
@pytest.mark.parametrize("shape", [(1, 5, 6), (5, 6)])
def test_listed_boxes_are_taken_as_they_are(decoder: Any, shape: tuple[int, ...]) -> None:
    out = np.zeros((1, 5, 6), np.float32)
    out[0, 0] = [*WANTED, 0.7, 2]
    (boxes,) = _decode(DetectSpec(decoder=decoder), picture_model(SIZE, {"out": shape}), {"out": out.reshape(shape)})
    _check(boxes, 0.7, 2)


def test_separate_outputs_are_told_apart_by_name_and_a_count_ends_them() -> None:
    ports: dict[str, Any] = {
        "detection_boxes": ("float32", (1, 4, 4)),
        "detection_classes": ("float32", (1, 4)),
        "detection_scores": ("float32", (1, 4)),
        "num_detections": ("float32", (1,)),
    }
    outputs = {
        "detection_boxes": np.asarray([[[20 / 64, 10 / 96, 50 / 64, 30 / 96]] * 4], np.float32),
        "detection_classes": np.asarray([[3.0, 1, 1, 1]], np.float32),
        "detection_scores": np.asarray([[0.7, 0.6, 0.5, 0.4]], np.float32),
        "num_detections": np.asarray([1.0], np.float32),
    }
    model = signature({"images": ("float32", (1, 3, *SIZE))}, ports)
    spec = DetectSpec(decoder="nms", box_format="yxyx", normalized=True, first_class=1)
    (boxes,) = _decode(spec, model, outputs)
    _check(boxes, 0.7, 2)


def test_separate_outputs_without_a_batch_are_told_apart_by_dtype() -> None:
    model = signature(
        {"images": ("float32", (1, 3, *SIZE))},
        {"boxes": ("float32", ("n", 4)), "kinds": ("int64", ("n",)), "scores": ("float32", ("n",))},
    )
    outputs = {
        "boxes": np.asarray([WANTED, WANTED], np.float32),
        "kinds": np.asarray([1, 0]),
        "scores": np.asarray([0.9, 0.001], np.float32),
    }
    (boxes,) = _decode(DetectSpec(decoder="nms"), model, outputs)
    _check(boxes, 0.9, 1)


def test_padding_with_class_minus_one_is_no_box() -> None:
    out = np.asarray([[[*WANTED, 0.7, -1]]], np.float32)
    (boxes,) = _decode(DetectSpec(decoder="end2end"), picture_model(SIZE, {"out": (1, 1, 6)}), {"out": out})
    assert len(boxes.scores) == 0


@pytest.mark.parametrize(("box_format", "numbers"), [("xywh", [10, 20, 20, 30]), ("cxcywh", [20, 35, 20, 30])])
def test_boxes_of_other_formats_become_corners(box_format: Any, numbers: list[float]) -> None:
    out = np.asarray([[[*numbers, 0.7, 1]]], np.float32)
    spec = DetectSpec(decoder="nms", box_format=box_format)
    (boxes,) = _decode(spec, picture_model(SIZE, {"out": (1, 1, 6)}), {"out": out})
    _check(boxes, 0.7, 1)


def test_labels_that_do_not_fit_are_counted_out() -> None:
    model = picture_model((416, 416), {"output": (1, 3549, 85)})
    with pytest.raises(ConfigError, match=r"85 = 5 \(box and objectness\) \+ 80 classes, but there are 6 labels"):
        bind_decoder(DetectSpec(decoder="yolox"), model, (416, 416), 6)


@pytest.mark.parametrize(
    ("decoder", "shapes", "message"),
    [
        ("yolox", {"out": (1, 100, 8)}, "another number of cells"),
        ("yolox", {"out": (1, 8)}, "needs one output of 3 dimensions"),
        ("yolov5", {"a": (1, 5, 8), "b": (1, 5, 8)}, "needs one output of 3 dimensions"),
        ("yolov8", {"out": (1, 3, 100)}, "needs 4 numbers of a box and at least one class"),
        ("end2end", {"out": (1, 100, 7)}, "needs one output of"),
        ("nms", {"boxes": (1, 9, 4), "first": (1, 9), "second": (1, 9)}, "name them"),
    ],
)
def test_outputs_that_a_decoder_cannot_read_are_refused(decoder: Any, shapes: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        bind_decoder(DetectSpec(decoder=decoder), picture_model(SIZE, shapes), SIZE, None)
    assert message in f"{caught.value} {caught.value.hint}"


def test_numbers_beyond_all_bounds_stay_numbers() -> None:
    model = picture_model(SIZE, {"out": (1, CELLS, 8)})
    out = np.full((1, CELLS, 8), 1e4, np.float32)
    (boxes,) = _decode(DetectSpec(decoder="yolox"), model, {"out": out})
    assert np.isfinite(boxes.corners).all()
