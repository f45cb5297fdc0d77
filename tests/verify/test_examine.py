"""Samples become model inputs in calls of the right size, and a candidate is set beside its source."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.bundle.making import COLUMNS, SIDE, make_colour_model, make_table_model, plain_picture

from ferryman.core.runtime import Session
from ferryman.core.signature import Array
from ferryman.core.task import Item, Samples, Task, bind_task
from ferryman.runtimes.onnx import OnnxSession
from ferryman.tasks.classify import ClassifySpec
from ferryman.tasks.tabular import TabularSpec
from ferryman.verify.examine import (
    PARITY_SAMPLES,
    CalibrationTensors,
    PreparedSamples,
    answer_samples,
    is_row,
    refer,
)

ROWS: list[Item] = [{"width": n / 100, "height": 1.0, "weight": 1.0} for n in range(2500)]


@pytest.fixture
def table(tmp_path: Path) -> Iterator[tuple[Task, Session]]:
    session = OnnxSession(make_table_model(tmp_path), threads=1)
    spec = TabularSpec(kind="tabular", columns=COLUMNS, labels=("light", "heavy"))
    yield bind_task(spec, session.signature), session
    session.close()


@pytest.fixture
def colour(tmp_path: Path) -> Iterator[tuple[Task, Session]]:
    session = OnnxSession(make_colour_model(tmp_path), threads=1)
    raw = {"size": [SIDE, SIDE], "fit": "stretch", "channels": "BGR", "scale": 0.01}
    spec = ClassifySpec.model_validate({"kind": "classify", "labels": ["blue", "green", "red"], "input": raw})
    yield bind_task(spec, session.signature), session
    session.close()


def named(items: list[Item]) -> Samples:
    return Samples(items, [f"item {place}" for place in range(len(items))])


def test_rows_go_many_in_a_call_and_each_gets_its_answer(table: tuple[Task, Session]) -> None:
    task, session = table
    prepared = PreparedSamples(task, named(ROWS), max_batch=None)
    assert len(prepared) == 3
    answers = answer_samples(task, session, prepared).answers
    alone = answer_samples(task, session, PreparedSamples(task, named(ROWS[2100:2101]), max_batch=None)).answers
    assert len(answers) == len(ROWS)
    assert answers[2100] == alone[0]


def test_a_fixed_batch_is_filled_up_and_the_filling_is_not_answered(table: tuple[Task, Session]) -> None:
    task, session = table
    prepared = PreparedSamples(task, named(ROWS[:10]), max_batch=4)
    assert [batch.inputs["rows"].shape for batch in prepared] == [(4, 3)] * 3
    assert len(answer_samples(task, session, prepared).answers) == 10


def test_samples_are_given_in_the_batch_of_a_model_that_takes_one(table: tuple[Task, Session]) -> None:
    task, _ = table
    prepared = PreparedSamples(task, named(ROWS[:10]), max_batch=None)
    assert prepared.sized(None) is prepared
    assert prepared.sized(4) is prepared.sized(4)
    assert [batch.inputs["rows"].shape for batch in prepared.sized(4)] == [(4, 3)] * 3
    full = PreparedSamples(task, named(ROWS), max_batch=None)
    assert {batch.inputs["rows"].shape for batch in full.sized(1024)} == {(1024, 3)}, "the last one is filled up"


def test_pictures_go_one_by_one(colour: tuple[Task, Session]) -> None:
    task, session = colour
    pictures: list[Item] = [plain_picture(250, 10, 10), plain_picture(10, 250, 10), plain_picture(10, 10, 250)]
    given = answer_samples(task, session, PreparedSamples(task, named(pictures), max_batch=1))
    assert [answer["labels"][0] for answer in given.answers] == ["blue", "green", "red"]


def test_raw_outputs_are_kept_of_the_first_calls_only(colour: tuple[Task, Session]) -> None:
    task, session = colour
    pictures: list[Item] = [plain_picture(10 * n, 10, 10) for n in range(PARITY_SAMPLES + 4)]
    given = answer_samples(task, session, PreparedSamples(task, named(pictures), max_batch=1))
    assert (len(given.outputs), len(given.answers)) == (PARITY_SAMPLES, PARITY_SAMPLES + 4)


def test_calibration_tensors_are_a_sequence_of_inputs(colour: tuple[Task, Session]) -> None:
    task, _ = colour
    tensors = CalibrationTensors(PreparedSamples(task, named([plain_picture(1, 2, 3)] * 3), max_batch=1))
    assert [inputs["picture"].shape for inputs in tensors] == [(1, 3, SIDE, SIDE)] * 3
    with pytest.raises(IndexError):
        tensors[3]


def test_a_row_is_told_from_named_arrays() -> None:
    assert is_row({"width": 1.0, "height": None})
    assert not is_row({"values": np.ones(3)})
    assert not is_row(b"bytes")


class Doubting:
    """Answer as a session does, with all confidence halved: the label stays, the score doesn't."""

    def __init__(self, session: Session) -> None:
        self.signature = session.signature
        self._session = session

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        shares = np.asarray(self._session.infer(inputs)["probabilities"], np.float64)
        return {"probabilities": (0.5 + (shares - 0.5) / 2).astype(np.float32)}

    def close(self) -> None:
        return None


def test_a_candidate_that_lost_its_confidence_but_no_accuracy_is_seen_through(table: tuple[Task, Session]) -> None:
    task, session = table
    rows = ROWS[:200]
    truths = [
        answer["label"]
        for answer in answer_samples(task, session, PreparedSamples(task, named(rows), max_batch=None)).answers
    ]
    samples = Samples(rows, [str(n) for n in range(200)], truths)
    prepared = PreparedSamples(task, samples, max_batch=None)
    reference = refer(task, prepared, answer_samples(task, session, prepared), metric=None)
    got = answer_samples(task, Doubting(session), prepared)  # type: ignore[arg-type]  # a session but for Mapping
    examined = reference.examine(got, metric=None, seed=0)
    assert examined.accuracy is not None
    assert (examined.accuracy.value, examined.accuracy.drop) == (1.0, 0.0)
    assert examined.agreement["score_shift"] > 0.1
    assert examined.parity.max_abs["probabilities"] > 0.1
    assert examined.score_histogram is not None
    assert examined.score_histogram[0] != examined.score_histogram[1]


def test_the_source_beside_itself_is_equal_in_everything(table: tuple[Task, Session]) -> None:
    task, session = table
    prepared = PreparedSamples(task, named(ROWS[:50]), max_batch=None)
    given = answer_samples(task, session, prepared)
    examined = refer(task, prepared, given, metric=None).examine(given, metric=None, seed=0)
    assert examined.accuracy is None, "there are no labels"
    assert set(examined.parity.max_abs.values()) == {0.0}
    assert all(distance == 0 for distance in examined.agreement.values())
