"""An examination in parts: no call is made twice, none after its time, and the whole is as if made at once."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.bundle.making import COLUMNS, make_table_model

from ferryman.core.errors import StepError
from ferryman.core.progress import silent
from ferryman.core.runtime import Session
from ferryman.core.signature import Array, Tensors
from ferryman.core.task import Samples, Task, bind_task
from ferryman.runtimes.onnx import OnnxSession
from ferryman.tasks.tabular import TabularSpec
from ferryman.verify.early import Examiner
from ferryman.verify.examine import PARITY_SAMPLES, PreparedSamples, Reference, answer_samples, refer

COUNT = 130
HOW = {"stage": "samples", "metric": None, "seed": 0}


class Counting:
    """Count the calls of a session."""

    def __init__(self, session: Session) -> None:
        self.signature = session.signature
        self.calls = 0
        self._session = session

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        self.calls += 1
        return self._session.infer(inputs)

    def close(self) -> None:
        self._session.close()


@pytest.fixture
def task_and_session(tmp_path: Path) -> Iterator[tuple[Task, Counting]]:
    session = Counting(OnnxSession(make_table_model(tmp_path), threads=1))
    spec = TabularSpec(kind="tabular", columns=COLUMNS, labels=("light", "heavy"))
    yield bind_task(spec, session.signature), session
    session.close()


def prepare(task: Task, *, count: int = COUNT) -> PreparedSamples:
    """Prepare rows in calls of two, sorted by their class."""
    rows = [{"width": n / 10, "height": 1.0, "weight": 1.0} for n in range(count)]
    truths = ["heavy" if n < 16 else "light" for n in range(count)]
    return PreparedSamples(task, Samples(rows, [f"row {n}" for n in range(count)], truths), max_batch=2)


def reference_of(task: Task, session: Session, prepared: PreparedSamples) -> Reference:
    return refer(task, prepared, answer_samples(task, session, prepared), metric=None)


def test_a_part_is_drawn_from_all_samples_and_the_whole_makes_no_call_twice(
    task_and_session: tuple[Task, Counting],
) -> None:
    task, session = task_and_session
    prepared = prepare(task, count=COUNT - 1)
    reference = reference_of(task, session, prepared)
    at_once = reference.examine(answer_samples(task, session, prepared), metric=None, seed=0)
    session.calls = 0
    examiner = Examiner(task, prepared, lambda: session, silent)
    part = examiner.part(reference, **HOW)  # type: ignore[arg-type]  # one dict of several types
    assert part is not None
    assert part.samples in (47, 48), "24 calls of two rows, but the last of 65 holds one"
    assert 24 <= session.calls <= 24 + PARITY_SAMPLES
    assert part.accuracy is not None
    assert part.accuracy.samples == part.samples
    assert part.parity.samples == at_once.parity.samples
    assert examiner.whole(reference, **HOW) == at_once  # type: ignore[arg-type]  # one dict of several types
    assert session.calls == len(prepared)


def test_a_part_of_samples_in_a_cycle_of_classes_has_all_of_them(task_and_session: tuple[Task, Counting]) -> None:
    task, session = task_and_session
    rows = [{"width": n / 100, "height": 1.0, "weight": 1.0} for n in range(400)]
    truths = ["heavy" if n % 4 == 0 else "light" for n in range(400)]
    prepared = PreparedSamples(task, Samples(rows, [f"row {n}" for n in range(400)], truths), max_batch=1)
    reference = reference_of(task, session, prepared)
    part = Examiner(task, prepared, lambda: session, silent).part(reference, **HOW)  # type: ignore[arg-type]
    whole = reference.examine(reference.given, metric=None, seed=0)
    assert part is not None and part.accuracy is not None and whole.accuracy is not None
    assert part.samples == 100
    assert part.accuracy.source_value == pytest.approx(whole.accuracy.source_value, abs=0.15)


def test_the_reference_of_a_part_is_measured_once(task_and_session: tuple[Task, Counting]) -> None:
    task, session = task_and_session
    reference = reference_of(task, session, prepare(task))
    assert reference.part([0, 3], metric=None) is reference.part([0, 3], metric=None)
    assert reference.part([0, 4], metric=None).given.answers[1] == reference.given.answers[4]
    other = replace(reference, given=replace(reference.given, outputs=[]))
    assert other.part([0, 3], metric=None).given.outputs == [], "another batch has outputs of its own"


def test_few_calls_are_made_at_once(task_and_session: tuple[Task, Counting]) -> None:
    task, session = task_and_session
    assert not Examiner(task, prepare(task, count=126), lambda: session, silent).has_part
    assert Examiner(task, prepare(task, count=128), lambda: session, silent).has_part


def test_nothing_is_loaded_or_asked_after_the_deadline(task_and_session: tuple[Task, Counting]) -> None:
    task, session = task_and_session
    prepared = prepare(task)
    reference = reference_of(task, session, prepared)
    session.calls = 0
    examiner = Examiner(task, prepared, lambda: session, silent, deadline=time.monotonic())
    with pytest.raises(StepError, match="out of time after 0 of 65 calls"):
        examiner.whole(reference, **HOW)  # type: ignore[arg-type]  # one dict of several types
    assert session.calls == 0
