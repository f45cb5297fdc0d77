import numpy as np

from ferryman.tasks.classify import ClassifySpec
from ferryman.tasks.detect_spec import DetectSpec
from ferryman.tasks.draw import draw

BOXES = {
    "boxes": [[20.0, 30.0, 60.0, 70.0], [-5.0, -5.0, 500.0, 500.0]],
    "scores": [0.9, 0.1],
    "classes": [0, 1],
    "labels": ["Schrauböse", "b"],
}


def test_shown_boxes_are_drawn_on_a_copy() -> None:
    picture = np.full((100, 120, 3), 128, np.uint8)
    drawn = draw(DetectSpec(decoder="yolox"), picture, BOXES)
    assert np.all(picture == 128) and drawn.shape == picture.shape
    assert np.any(drawn[30, 20:61] != 128) and np.all(drawn[40:60, 30:50] == 128)
    assert np.all(drawn[99, 119] == 128)


def test_a_box_shows_on_black_white_and_its_own_colour() -> None:
    spec = DetectSpec(decoder="yolox")
    for shade in (0, 255):
        assert np.ptp(draw(spec, np.full((100, 120, 3), shade, np.uint8), BOXES)[65, 15:25].astype(int)) > 50
    line = draw(spec, np.full((100, 120, 3), 128, np.uint8), BOXES)[50, 20]
    assert np.ptp(draw(spec, np.full((100, 120, 3), line, np.uint8), BOXES)[50, 15:25].astype(int)) > 50


def test_the_best_classes_are_written_on_the_picture() -> None:
    answer = {"classes": [1], "labels": ["cat"], "scores": [0.9]}
    picture = np.full((60, 200, 3), 100, np.uint8)
    drawn = draw(ClassifySpec(), picture, answer)
    assert drawn.max() > 200 and np.all(drawn[-10:] == 100)


def test_a_row_or_an_empty_answer_leaves_the_picture_as_it_is() -> None:
    picture = np.full((10, 10, 3), 9, np.uint8)
    assert np.array_equal(draw(ClassifySpec(), picture, {"value": 1.0}), picture)
    assert np.array_equal(draw(ClassifySpec(), picture, {"classes": [], "labels": [], "scores": []}), picture)


def test_a_tiny_picture_can_be_drawn_on() -> None:
    assert draw(DetectSpec(decoder="yolox"), np.zeros((1, 1, 3), np.uint8), BOXES).shape == (1, 1, 3)
