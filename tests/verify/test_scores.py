"""Confidences are compared with what they promise: the share of answers that are right."""

import math

import numpy as np
import pytest

from ferryman.core.task import Measurement
from ferryman.tasks.coco import measure_boxes
from ferryman.verify.scores import LEAST_CONFIDENCE, compare_calibration


def _measured(scores: list[float], right: list[bool]) -> Measurement:
    outcomes = (np.asarray(scores, np.float64), np.asarray(right, np.bool_))
    return Measurement("top1", 0.5, True, lambda indices: np.zeros(len(indices)), outcomes=outcomes)


def test_confidences_that_come_true_have_no_error() -> None:
    sure = _measured([0.8] * 10, [True] * 8 + [False] * 2)
    found = compare_calibration(sure, sure)
    assert found is not None
    assert found.source.error == pytest.approx(0.0, abs=1e-9)
    assert len(found.source.bins) == 1
    assert found.source.bins[0] == pytest.approx((0.8, 0.8, 10))


def test_a_candidate_that_is_too_sure_of_itself_shows_by_how_much() -> None:
    source = _measured([0.8] * 10, [True] * 8 + [False] * 2)
    brash = _measured([0.98] * 10, [True] * 8 + [False] * 2)
    found = compare_calibration(source, brash)
    assert found is not None
    assert found.shift == pytest.approx(0.18)


def test_each_bin_weighs_as_much_as_it_has_answers() -> None:
    found = compare_calibration(*[_measured([0.9] * 3 + [0.2], [True] * 3 + [True])] * 2)
    assert found is not None
    assert found.candidate.error == pytest.approx((3 * 0.1 + 1 * 0.8) / 4)


def test_a_detectors_tail_of_guesses_does_not_count() -> None:
    few = _measured([0.8] * 5 + [LEAST_CONFIDENCE / 2] * 1000, [True] * 4 + [False] * 1001)
    found = compare_calibration(few, few)
    assert found is not None
    assert sum(count for _, _, count in found.candidate.bins) == 5


def test_a_candidate_without_any_confidence_left_keeps_no_promise() -> None:
    found = compare_calibration(_measured([0.8], [True]), _measured([], []))
    assert found is not None
    assert math.isnan(found.shift)


def test_answers_without_confidences_have_no_calibration() -> None:
    values = Measurement("rmse", 1.0, False, lambda indices: np.zeros(len(indices)))
    assert compare_calibration(values, values) is None


def test_a_box_is_right_where_it_lies_on_a_truth_of_its_class() -> None:
    answer = {"boxes": [[0, 0, 10, 10], [50, 50, 60, 60]], "scores": [0.9, 0.4], "classes": [0, 0]}
    truth = {"boxes": [[0, 0, 10, 9]], "classes": [0]}
    outcomes = measure_boxes([answer], [truth], "map", ("part",)).outcomes
    assert outcomes is not None
    assert outcomes[0].tolist() == [0.9, 0.4]
    assert outcomes[1].tolist() == [True, False]
