from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferryman.core.errors import ConfigError, InputError
from ferryman.core.signature import Array
from ferryman.core.task import Answer, Batch
from ferryman.tasks.detect import DetectTask
from ferryman.tasks.detect_spec import DetectSpec
from ferryman.tasks.detections import compare_detections
from tests.tasks.making import encode, noise, picture_model

MODEL = picture_model((64, 64), {"out": (1, 3, 6)})


def _task(**settings_given: Any) -> DetectTask:  # any key of the section
    return DetectTask(DetectSpec(decoder="yolov5", **settings_given), MODEL)


def _answer(*boxes: tuple[list[float], float, int]) -> Answer:
    return {
        "boxes": [box for box, _, _ in boxes],
        "scores": [score for _, score, _ in boxes],
        "classes": [number for _, _, number in boxes],
        "labels": [str(number) for _, _, number in boxes],
    }


def _postprocess(task: DetectTask, rows: list[list[float]]) -> Answer:
    batch = task.preprocess([noise(32, 64)])
    return task.postprocess({"out": np.asarray([rows], np.float32)}, batch)[0]


def test_boxes_come_back_in_pixels_of_the_picture_best_first() -> None:
    task = _task(labels=("bolt",))
    # A 32 x 64 picture lies in rows 16..48 of the input, at its own size.
    rows: list[list[float]] = [[20, 30, 10, 10, 0.5, 1], [40, 30, 10, 10, 0.9, 1], [20.5, 30, 10, 10, 0.4, 1]]
    assert _postprocess(task, rows) == {
        "boxes": [[35.0, 9.0, 45.0, 19.0], [15.0, 9.0, 25.0, 19.0]],
        "scores": [0.9, 0.5],
        "classes": [0, 0],
        "labels": ["bolt", "bolt"],
    }


def test_boxes_of_a_tensor_without_its_picture_are_in_its_own_pixels() -> None:
    outputs: dict[str, Array] = {"out": np.asarray([[[20, 30, 10, 10, 0.5, 1]] * 3], np.float32)}
    inputs: dict[str, Array] = {"images": np.zeros((1, 3, 64, 64), np.float32)}
    [answer] = _task().postprocess(outputs, Batch(inputs, (None,)))
    assert answer["boxes"] == [[15.0, 25.0, 25.0, 35.0]]


def test_boxes_that_are_no_numbers_or_outside_are_left_out() -> None:
    rows = [[float("nan"), 30, 10, 10, 0.9, 1], [20, -500, 10, 10, 0.9, 1], [20, 30, 0, 10, 0.9, 1]]
    assert _postprocess(_task(), rows)["boxes"] == []


def test_a_bad_picture_is_named_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"^bad\.jpg is "):
        _task().preprocess([tmp_path / "bad.jpg"])
    with pytest.raises(InputError, match=r"^picture 2 is "):
        _task().preprocess([encode(".png", noise(5, 5)), b"nothing"])


def test_unread_labels_are_refused() -> None:
    with pytest.raises(ConfigError, match="was not read yet"):
        _task(labels="names.txt")


def test_equal_answers_agree_fully_and_so_do_empty_ones() -> None:
    answers = [_answer(([0, 0, 10, 10], 0.9, 0), ([20, 20, 30, 30], 0.3, 1)), _answer()]
    assert set(compare_detections(answers, answers, show_score=0.25).figures.values()) == {0.0}
    assert set(compare_detections([_answer()], [_answer()], show_score=0.25).figures.values()) == {0.0}


@pytest.mark.parametrize("hidden", [(), (([0.0, 0.0, 10.0, 10.0], 0.2, 0),)])
def test_a_shift_of_no_shown_box_is_not_measured_and_a_lone_box_is(
    hidden: tuple[tuple[list[float], float, int], ...],
) -> None:
    task, before, lone = _task(), [_answer(*hidden)], [_answer(([0, 0, 10, 10], 0.9, 1))]
    figures = task.agreement(before, [_answer()]).figures
    assert "score_shift" not in figures and "score_bias" not in figures and figures["unmatched"] == 0
    assert task.agreement(before, [_answer()]).beyond(task.tolerance) == {}
    figures = task.agreement(before, lone).figures
    assert figures["score_shift"] == pytest.approx(0.9) and figures["unmatched"] == 1
    assert set(task.agreement(before, lone).beyond(task.tolerance)) == {"unmatched", "max_score_diff"}


def test_a_partner_whose_score_is_no_number_never_agrees() -> None:
    before, after = _answer(([0, 0, 10, 10], 0.9, 0)), _answer(([0, 0, 10, 10], float("nan"), 0))
    task = _task()
    assert "max_score_diff" in task.agreement([before], [after]).beyond(task.tolerance)


def test_a_lost_box_counts_with_its_whole_score() -> None:
    both = _answer(([0, 0, 10, 10], 0.9, 0), ([20, 20, 30, 30], 0.5, 0))
    figures = compare_detections([both], [_answer(([0, 0, 10, 10], 0.9, 0))], show_score=0.25).figures
    assert figures["unmatched"] == pytest.approx(1 / 3)
    assert figures["score_shift"] == pytest.approx(0.25)
    assert figures["score_bias"] == pytest.approx(0.25)
    assert figures["max_score_diff"] == pytest.approx(0.5)


def test_a_partner_below_the_shown_scores_is_a_shift_and_not_a_loss() -> None:
    before, after = _answer(([0, 0, 10, 10], 0.26, 0)), _answer(([0, 0, 10, 10], 0.24, 0))
    figures = compare_detections([before], [after], show_score=0.25).figures
    assert figures["unmatched"] == 0 and figures["score_shift"] == pytest.approx(0.02)


def test_another_class_is_no_partner() -> None:
    before, after = _answer(([0, 0, 10, 10], 0.9, 0)), _answer(([0, 0, 10, 10], 0.9, 1))
    assert compare_detections([before], [after], show_score=0.25).figures["unmatched"] == 1


def test_moved_boxes_are_measured_in_pixels() -> None:
    before, after = _answer(([0, 0, 10, 10], 0.9, 0)), _answer(([0, 0, 10, 12], 0.9, 0))
    figures = compare_detections([before], [after], show_score=0.25).figures
    assert figures["max_box_diff"] == 2 and figures["mean_iou_loss"] == pytest.approx(1 / 6)


def test_boxes_below_the_shown_scores_do_not_count() -> None:
    before = _answer(([0, 0, 10, 10], 0.9, 0), ([50, 50, 60, 60], 0.1, 0))
    assert compare_detections([before], [_answer(([0, 0, 10, 10], 0.9, 0))], show_score=0.25).figures["unmatched"] == 0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(0, 8))
def test_the_distance_of_two_answers_is_the_same_both_ways(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 50, (2, count, 2))
    corners = np.concatenate([low, low + rng.uniform(1, 40, (2, count, 2))], axis=2)
    answers = [
        _answer(*zip(corners[side].tolist(), rng.uniform(size=count).tolist(), [0] * count, strict=True))
        for side in (0, 1)
    ]
    there = compare_detections(answers[:1], answers[1:], show_score=0.25).figures
    back = compare_detections(answers[1:], answers[:1], show_score=0.25).figures
    assert there == pytest.approx(back)


def test_golden_tolerance_forgives_noise_and_not_a_lost_box() -> None:
    task = _task()
    before = [_answer(([0, 0, 10, 10], 0.9, 0), ([20, 20, 30, 30], 0.6, 1))]
    noisy = [_answer(([0.1, 0, 10, 10.1], 0.9001, 0), ([20, 20, 30, 30], 0.5999, 1))]
    assert task.agreement(before, noisy).beyond(task.tolerance) == {}
    lost = [_answer(([0, 0, 10, 10], 0.9, 0))]
    assert "unmatched" in task.agreement(before, lost).beyond(task.tolerance)
