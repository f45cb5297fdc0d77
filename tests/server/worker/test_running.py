"""Whatever a task does with a job, its asks get an answer or an error each."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from ferryman.core.errors import FerrymanError, InputError
from ferryman.core.runtime import Session
from ferryman.core.signature import Array
from ferryman.core.task import Answer, Batch, Item
from ferryman.server.data.worker.loading import Model, bring_up
from ferryman.server.data.worker.messages import write_outcome
from ferryman.server.data.worker.order import LoadOrder
from ferryman.server.data.worker.running import Outcome, Runner
from tests.bundle.making import bundle_table


class _Choosy:
    """Take the first call's items only, and fail otherwise where there are many."""

    def __init__(self) -> None:
        self.prepared: list[int] = []

    def preprocess(self, items: Sequence[Item]) -> Batch:
        self.prepared.append(len(items))
        if len(items) > 2:
            raise KeyError("too many")
        if len(self.prepared) > 1:
            raise InputError("item 1 is no good")
        return Batch({}, (None,) * len(items))

    def postprocess(self, outputs: Mapping[str, Array], batch: Batch) -> list[Answer]:
        return [{} for _ in batch.contexts]


class _Counting:
    """Be a session that notes how many rows each call has."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.calls: list[int] = []

    def infer(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        self.calls.append(len(next(iter(inputs.values()), ())))
        return self._session.infer(inputs) if inputs else {}


@pytest.fixture
def table(tmp_path: Path) -> tuple[Runner, _Counting]:
    """Give a runner of a table's model that refuses empty cells, and the calls that its engine gets."""
    model, _ = bring_up(LoadOrder(bundle_table(tmp_path / "table").path, max_batch=16))
    session = _Counting(model.session)
    counted: Any = session  # as much of a session as is asked here
    return Runner(replace(model, session=counted), 1), session


def row(height: object = 2.0) -> dict[str, Any]:  # cells
    return {"width": 1.0, "height": height, "weight": 0.5}


def test_a_task_that_fails_while_its_error_is_numbered_keeps_the_error_that_it_had() -> None:
    choosy, none = _Choosy(), cast(Any, None)
    task: Any = choosy  # as much of a task as is asked here
    session: Any = _Counting(none)
    outcome = Runner(Model(session, task, None, 2), 1).run_items([[{"a": 1}] * 3])
    assert str(outcome.errors[0]) == "item 1 is no good"
    assert choosy.prepared == [2, 1, 3]


def test_asks_of_tensors_that_are_refused_leave_the_others_in_one_call(table: tuple[Runner, _Counting]) -> None:
    runner, session = table
    values = np.arange(18, dtype=np.float32).reshape(6, 3)
    values[2, 1] = np.nan
    values[5, 2] = np.inf
    outcome = runner.run_tensors({"rows": values}, [1, 2, 2, 1])
    assert session.calls == [3]
    assert {place: str(error)[:24] for place, error in outcome.errors.items()} == {
        1: "row 2, column 'height' i", 3: "row 1, column 'weight' i",
    }  # fmt: skip
    assert [(group.first, list(group.rows)) for group in outcome.groups] == [(0, [1]), (2, [2])]
    alone = runner.run_tensors({"rows": values[3:5]}, [2])
    together, expected = (
        np.asarray(each.outputs["probabilities"], float) for each in (outcome.groups[1], *alone.groups)
    )
    np.testing.assert_allclose(together, expected, rtol=1e-6)


def test_a_call_of_refused_asks_alone_asks_the_engine_nothing(table: tuple[Runner, _Counting]) -> None:
    runner, session = table
    outcome = runner.run_tensors({"rows": np.full((2, 3), np.nan, np.float32)}, [1, 1])
    assert (sorted(outcome.errors), session.calls, outcome.groups) == ([0, 1], [], [])


@pytest.mark.parametrize("bad", [None, "tall"])
def test_asks_of_rows_that_are_refused_leave_the_others_in_one_call(
    table: tuple[Runner, _Counting], bad: object
) -> None:
    runner, session = table
    outcome = runner.run_items([[row()], [row(), row(bad)], [row()], [row(bad)]])
    assert session.calls == [2]
    assert {place: str(error).partition(",")[0] for place, error in outcome.errors.items()} == {1: "row 2", 3: "row 1"}
    assert [len(outcome.answers[place]) for place in (0, 2)] == [1, 1]


def test_a_refused_row_beyond_the_first_call_has_its_number_in_the_whole_ask(table: tuple[Runner, _Counting]) -> None:
    outcome = table[0].run_items([[row()] * 20 + [row(None)]])
    assert str(outcome.errors[0]).startswith("row 21, column 'height'")


def test_a_refused_ask_of_one_call_is_prepared_once() -> None:
    choosy = _Choosy()
    choosy.prepared.append(0)
    task: Any = choosy  # as much of a task as is asked here
    none: Any = None
    assert sorted(Runner(Model(none, task, None, 2), 1).run_items([[{"a": 1}] * 2]).errors) == [0]
    assert choosy.prepared == [0, 2]


def test_an_answer_that_json_has_no_words_for_is_its_asks_error_alone() -> None:
    outcome = Outcome(answers={0: [{"kinds": {1, 2}}], 1: [{"kind": 1}]})
    meta, parcel = write_outcome(outcome, None)
    assert [place for place, *_ in meta["a"]] == [1]
    assert parcel.size_bytes > 0
    ((place, kind, message, _),) = meta["e"]
    assert (place, kind) == (0, FerrymanError.__name__)
    assert "can't be sent" in message
