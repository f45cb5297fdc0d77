"""What is told of tensors that no task gives a meaning, and of calls that are odd."""

import math
from typing import Any

import numpy as np
import pytest

from ferryman.core.record import Value
from ferryman.core.signature import Array, Signature, TensorSpec
from ferryman.monitor.signals.read import MOST_SIGNALS, Signals
from ferryman.tasks.tensor import TensorSection, TensorTask

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", 4)),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=("batch", 4)),),
)


def read(values: Array, *, rows: int, contexts: Any = (), answers: Any = None) -> dict[str, list[Value]]:  # any task's
    signals = Signals(TensorSection(), SIGNATURE)
    found = signals.read(
        inputs={"x": values}, items=None, contexts=contexts, answers=answers, outputs={"y": values * 2}, rows=rows
    )
    assert not signals.unread
    return found


def test_each_row_has_mean_deviation_and_what_is_not_finite() -> None:
    found = read(np.array([[1, 1, 3, 3], [np.nan, np.inf, 1, 1], [np.nan] * 4], np.float32), rows=3)
    assert found["input.x.mean"][:2] == [2.0, 1.0]
    assert found["input.x.std"][:2] == [1.0, 0.0]
    assert found["input.x.not_finite"] == [0.0, 0.5, 1.0]
    assert found["output.y.mean"][0] == 4.0
    assert math.isnan(found["output.y.mean"][2])  # type: ignore[arg-type]  # a number


def test_an_item_of_several_rows_has_one_value() -> None:
    items = [{"x": np.zeros((1, 4), np.float32)}, {"x": np.ones((3, 4), np.float32)}]
    task = TensorTask(TensorSection(), SIGNATURE)
    batch = task.preprocess(items)
    answers = task.postprocess({"y": batch.inputs["x"]}, batch)
    found = read(batch.inputs["x"], rows=2, contexts=batch.contexts, answers=answers)
    assert found["input.x.mean"] == [0.0, 1.0]
    assert found["output.y.mean"] == [0.0, 2.0]


@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (1, 0)])
def test_empty_and_odd_tensors_are_missing(shape: tuple[int, ...]) -> None:
    found = read(np.zeros(shape, np.float32), rows=1)
    assert all(len(values) == 1 for values in found.values())


def test_an_empty_batch_has_no_signals() -> None:
    assert read(np.zeros((0, 4), np.float32), rows=0) == {}


def test_a_large_tensor_is_looked_at_in_part() -> None:
    rng = np.random.default_rng(0)
    found = read(rng.normal(5, 2, (1, 2_000_000)), rows=1)
    assert found["input.x.mean"][0] == pytest.approx(5, abs=0.15)
    assert found["input.x.std"][0] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    "answers",
    [[{"boxes": None, "scores": 3}], [{"labels": 4, "scores": "x"}], [None], [{"embedding": "no"}], "ab", [{}, {}, {}]],
)
def test_answers_of_any_form_never_raise(answers: Any) -> None:  # not what a task gives
    signals = Signals(TensorSection(), SIGNATURE)
    values: Array = np.zeros((2, 4), np.float32)
    found = signals.read(inputs={"x": values}, items=None, contexts=(), answers=answers, outputs=None, rows=2)
    assert found["input.x.mean"] == [0.0, 0.0]
    assert all(len(column) == 2 for column in found.values())


def test_a_call_without_its_tensor_is_counted() -> None:
    signals = Signals(TensorSection(), SIGNATURE)
    found = signals.read(inputs={}, items=None, contexts=(), answers=[{"value": 2.0}], outputs=None, rows=1)
    assert found == {"answer.value": [2.0]}
    assert signals.unread == {"input": 1}


def test_keys_without_end_give_no_signals_without_end() -> None:
    signals = Signals(TensorSection(), SIGNATURE)
    names: set[str] = set()
    for place in range(2000):
        answers = [{f"user {place}": 1.0}]
        names |= signals.read(inputs={}, items=None, contexts=(), answers=answers, outputs=None, rows=1).keys()
    assert len(names) == MOST_SIGNALS
    known = signals.read(inputs={}, items=None, contexts=(), answers=[{"user 3": 2.0}], outputs=None, rows=1)
    assert known == {"answer.user 3": [2.0]}
