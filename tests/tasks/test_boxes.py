import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ferryman.tasks.boxes import Boxes, iou, match, suppress


def _random(count: int, classes: int, seed: int, side: float = 100.0) -> Boxes:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, side, (count, 2))
    corners = np.concatenate([low, low + rng.uniform(0, side / 3, (count, 2))], axis=1)
    # Scores of few digits make ties.
    return Boxes(corners, np.round(rng.uniform(size=count), 2), rng.integers(0, classes, count))


def _iou_of(first: list[float], second: list[float]) -> float:
    width = max(min(first[2], second[2]) - max(first[0], second[0]), 0.0)
    height = max(min(first[3], second[3]) - max(first[1], second[1]), 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    united = sum(areas) - width * height
    return width * height / united if united > 0 else 0.0


def _suppress_slowly(boxes: Boxes, overlap: float, most: int, agnostic: bool) -> list[int]:
    corners, classes = boxes.corners.tolist(), boxes.classes.tolist()
    kept: list[int] = []
    for place in sorted(range(len(corners)), key=lambda place: (-boxes.scores[place], place)):
        rivals = [other for other in kept if agnostic or classes[other] == classes[place]]
        if all(_iou_of(corners[place], corners[other]) <= overlap for other in rivals):
            kept.append(place)
    return kept[:most]


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 60) | st.integers(250, 600),
    classes=st.integers(1, 4),
    seed=st.integers(0, 10_000),
    overlap=st.sampled_from([0.0, 0.3, 0.45, 0.65, 1.0]),
    most=st.sampled_from([1, 5, 300]),
    agnostic=st.booleans(),
)
def test_suppression_equals_the_textbook_one(
    count: int, classes: int, seed: int, overlap: float, most: int, agnostic: bool
) -> None:
    boxes = _random(count, classes, seed)
    found = suppress(boxes, overlap=overlap, most=most, agnostic=agnostic)
    assert found.tolist() == _suppress_slowly(boxes, overlap, most, agnostic)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), first=st.integers(0, 8), second=st.integers(0, 8))
def test_the_iou_matrix_equals_the_one_box_by_box(seed: int, first: int, second: int) -> None:
    one, other = _random(first, 1, seed).corners, _random(second, 1, seed + 1).corners
    wanted = [[_iou_of(a, b) for b in other.tolist()] for a in one.tolist()]
    np.testing.assert_allclose(iou(one, other), np.asarray(wanted).reshape(first, second), atol=1e-12)


def test_the_iou_of_empty_boxes_is_zero() -> None:
    point = np.asarray([[3.0, 3.0, 3.0, 3.0]])
    assert iou(point, point).tolist() == [[0.0]]


def test_each_box_gets_one_partner_the_closest_first() -> None:
    ones = np.ones(2)
    reference = Boxes(np.asarray([[0, 0, 10, 10], [1, 0, 11, 10]], float), ones, np.zeros(2, np.int64))
    other = Boxes(np.asarray([[1, 0, 11, 10], [0, 0, 10, 10]], float), ones, np.zeros(2, np.int64))
    assert sorted(map(tuple, match(reference, other, overlap=0.5).tolist())) == [(0, 1), (1, 0)]


def test_boxes_of_other_classes_are_no_partners() -> None:
    corners = np.asarray([[0.0, 0.0, 10.0, 10.0]])
    first = Boxes(corners, np.ones(1), np.asarray([0]))
    assert match(first, Boxes(corners, np.ones(1), np.asarray([1])), overlap=0.5).shape == (0, 2)


def test_twenty_thousand_candidates_are_thinned_out_in_a_fraction_of_a_second() -> None:
    boxes = _random(20_000, 80, 1, side=640.0)
    start = time.perf_counter()
    assert len(suppress(boxes, overlap=0.65, most=300)) == 300
    assert time.perf_counter() - start < 1.0
