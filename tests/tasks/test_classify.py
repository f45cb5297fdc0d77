import numpy as np
import pytest

from ferryman.core.errors import ConfigError
from ferryman.core.task import Answer
from ferryman.tasks.classify import ClassifySpec, ClassifyTask
from tests.tasks.making import noise, picture_model

MODEL = picture_model((8, 8), {"prob": (1, 4)})


def _task(**settings_given: object) -> ClassifyTask:
    return ClassifyTask(ClassifySpec.model_validate({"kind": "classify", **settings_given}), MODEL)


def _answer(task: ClassifyTask, values: list[float]) -> Answer:
    return task.postprocess({"prob": np.asarray([values], np.float32)}, task.preprocess([noise(9, 9)]))[0]


def test_the_best_classes_come_first_with_their_names() -> None:
    answer = _answer(_task(labels=["a", "b", "c", "d"], top_k=2), [0.125, 0.5, 0.25, 0.125])
    assert answer == {"classes": [1, 2], "labels": ["b", "c"], "scores": [0.5, 0.25]}


def test_softmax_and_sigmoid_make_scores_of_any_numbers() -> None:
    assert sum(_answer(_task(activation="softmax"), [1000.0, 999.0, -1000.0, 0.0])["scores"]) == pytest.approx(
        1, abs=1e-5
    )
    assert _answer(_task(activation="sigmoid"), [0.0, -1e5, 1e5, 0.0])["scores"] == [1.0, 0.5, 0.5, 0.0]


def test_labels_must_be_as_many_as_classes() -> None:
    with pytest.raises(ConfigError, match="4 classes, but there are 3 labels"):
        _task(labels=["a", "b", "c"])
    with pytest.raises(ConfigError, match="'logits' is no output of the model"):
        _task(output="logits")


def test_equal_answers_agree_and_a_changed_label_does_not() -> None:
    task = _task()
    first, second = _answer(task, [0.5, 0.3, 0.1, 0.1]), _answer(task, [0.3, 0.5, 0.1, 0.1])
    assert set(task.agreement([first], [first]).figures.values()) == {0.0}
    figures = task.agreement([first], [second]).figures
    assert figures["label_changed"] == 1
    assert figures["score_shift"] == pytest.approx(0.2) and figures["max_score_diff"] == pytest.approx(0.2)


def test_a_shift_of_no_answers_is_not_measured() -> None:
    task = _task()
    answer = _answer(task, [0.5, 0.3, 0.1, 0.1])
    assert task.agreement([answer], [answer]).figures["score_shift"] == 0
    nothing = task.agreement([], [])
    assert set(nothing.figures) == {"label_changed", "max_score_diff"} and nothing.beyond(task.tolerance) == {}


def test_a_score_that_is_no_number_never_agrees() -> None:
    task = _task()
    broken = _answer(task, [float("nan")] * 4)
    assert "max_score_diff" in task.agreement([_answer(task, [0.5, 0.3, 0.1, 0.1])], [broken]).beyond(task.tolerance)


def test_top1_and_top5_are_shares_of_hits_and_resample() -> None:
    task = _task()
    answers = [_answer(task, [0.5, 0.3, 0.2, 0.0]), _answer(task, [0.1, 0.3, 0.2, 0.4])]
    measured = task.measure(answers, [0, 1], None)
    assert measured.value == 0.5 and measured.figures == {"top1": 0.5, "top5": 1.0}
    assert measured.resampled(np.asarray([[0, 0], [1, 1], [0, 1]])).tolist() == [1.0, 0.0, 0.5]


def test_metrics_that_cannot_be_computed_are_refused() -> None:
    with pytest.raises(ConfigError, match="no metric 'map'"):
        _task().measure([], [], "map")
    with pytest.raises(ConfigError, match="top_k >= 5"):
        _task(top_k=1).measure([], [], "top5")
