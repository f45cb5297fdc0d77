"""What is told of answers, by what they hold."""

import math
from typing import Any

import numpy as np
import pytest

from ferryman.core.record import Value
from ferryman.core.signature import Signature, TensorSpec
from ferryman.core.task import Answer
from ferryman.monitor.signals.read import Signals
from ferryman.tasks.detect_spec import DetectSpec
from ferryman.tasks.image import Placement
from ferryman.tasks.tensor import TensorSection

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", 2)),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=("batch", 2)),),
)
PLACED = Placement(1.0, 1.0, 0.0, 0.0, 200, 100)


def read(*answers: Answer, spec: Any = None, contexts: Any = ()) -> dict[str, list[Value]]:  # any task's
    signals = Signals(spec or TensorSection(), SIGNATURE)
    found = signals.read(inputs={}, items=None, contexts=contexts, answers=answers, outputs=None, rows=len(answers))
    assert set(signals.unread) <= {"input"}
    return {name: values for name, values in found.items() if name.startswith("answer.")}


def test_ranked_labels_have_confidence_margin_and_entropy() -> None:
    found = read(
        {"classes": [3, 1], "labels": ["cat", "dog"], "scores": [0.5, 0.25]},
        {"classes": [1, 3], "labels": ["dog", "cat"], "scores": [1.0, 0.0]},
    )
    assert found["answer.label"] == ["cat", "dog"]
    assert found["answer.confidence"] == [0.5, 1.0]
    assert found["answer.margin"] == [0.25, 1.0]
    assert found["answer.entropy"] == [1.5, 0.0]  # 1/2, 1/4, and 1/4 that is not listed


def test_scores_that_are_no_shares_have_no_entropy() -> None:
    found = read({"classes": [0, 1], "labels": ["a", "b"], "scores": [9.0, 4.0]})
    assert math.isnan(found["answer.entropy"][0])  # type: ignore[arg-type]  # a number
    assert found["answer.margin"] == [5.0]


def test_probabilities_of_a_row_are_ranked() -> None:
    found = read({"label": "no", "probabilities": {"yes": 0.25, "no": 0.75}}, {"label": "yes", "probabilities": {}})
    assert found["answer.label"] == ["no", "yes"]
    assert found["answer.confidence"][0] == 0.75
    assert math.isnan(found["answer.confidence"][1])  # type: ignore[arg-type]  # a number


def test_a_value_is_a_signal() -> None:
    assert read({"value": 3.5}, {"value": math.inf}) == {"answer.value": [3.5, math.inf]}


def test_boxes_tell_how_many_how_sure_how_large_and_where() -> None:
    answer = {
        "boxes": [[0, 0, 100, 50], [100, 50, 200, 100], [0, 0, 10, 10]],
        "scores": [0.9, 0.5, 0.1], "classes": [0, 1, 1], "labels": ["cup", "dog", "dog"],
    }  # fmt: skip
    found = read(answer, spec=DetectSpec(decoder="yolox"), contexts=(PLACED,))
    assert found["answer.objects"] == [2.0]
    assert found["answer.empty"] == [0.0]
    assert found["answer.best"] == [0.9]
    assert found["answer.confidence"] == [0.7]
    assert found["answer.least"] == [0.5]
    assert found["answer.box_area"] == [-2.0]  # a quarter of the picture each
    assert (found["answer.box_x"], found["answer.box_y"]) == ([0.5], [0.5])


def test_a_picture_without_objects_says_so() -> None:
    answer: Answer = {"boxes": [[0, 0, 9, 9]], "scores": [0.2], "classes": [0], "labels": ["cup"]}
    found = read(answer, spec=DetectSpec(decoder="yolox"), contexts=(PLACED,))
    assert (found["answer.objects"], found["answer.empty"], found["answer.best"]) == ([0.0], [1.0], [0.2])
    assert found["answer.label"] == [None]
    assert math.isnan(found["answer.confidence"][0])  # type: ignore[arg-type]  # a number
    assert read({"boxes": [], "scores": [], "classes": [], "labels": []})["answer.best"] == [0.0]


def test_the_labels_of_boxes_give_the_mix_of_classes() -> None:
    rng = np.random.default_rng(0)
    answers = [
        {"boxes": rng.random((4, 4)).tolist(), "scores": [0.9, 0.8, 0.7, 0.6], "classes": [0, 1, 1, 1],
         "labels": ["cup", "dog", "dog", "dog"]}
        for _ in range(2000)
    ]  # fmt: skip
    found = read(*answers, spec=DetectSpec(decoder="yolox"))
    assert found["answer.label"].count("cup") / 2000 == pytest.approx(0.25, abs=0.03)
    assert found["answer.label"] == read(*answers, spec=DetectSpec(decoder="yolox"))["answer.label"]


def test_an_embedding_is_told_by_eight_directions_that_never_change() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((500, 384))
    found = read(*({"embedding": vector.tolist()} for vector in vectors))
    along = np.asarray([found[f"answer.embedding.{place}"] for place in range(8)], float)
    assert along.std() == pytest.approx(1.0, abs=0.05)
    assert np.abs(np.corrcoef(along) - np.eye(8)).max() < 0.2
    assert found["answer.norm"][0] == pytest.approx(np.linalg.norm(vectors[0]))
    first = read({"embedding": [2.0, 0.0, 0.0]})
    assert "".join("+" if first[f"answer.embedding.{place}"] == [1.0] else "-" for place in range(8)) == "+--+---+"


def test_a_vector_of_nothing_is_missing() -> None:
    found = read({"embedding": [0.0, 0.0]}, {"embedding": [math.nan, 1.0]}, {"embedding": []})
    assert all(math.isnan(value) for value in found["answer.embedding.3"])  # type: ignore[arg-type]  # numbers


def test_an_answer_of_a_foreign_task_is_told_by_its_numbers_and_texts() -> None:
    found = read({"score": 0.5, "verdict": "pass", "ok": True, "notes": ["a"], "nested": {"a": 1}})
    assert found == {"answer.score": [0.5], "answer.verdict": ["pass"], "answer.ok": [1.0]}


def test_an_answer_that_lacks_a_signal_of_others_has_it_missing() -> None:
    found = read({"value": 1.0}, {"verdict": "fail"})
    assert math.isnan(found["answer.value"][1])  # type: ignore[arg-type]  # a number
    assert found["answer.verdict"] == [None, "fail"]
