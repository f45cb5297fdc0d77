"""Answer jobs with a loaded model: prepare, call the engine, finish; one bad request never spoils another."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ferryman.core.errors import FerrymanError
from ferryman.core.signature import Array
from ferryman.core.task import Answer, Item
from ferryman.server.data.worker.loading import Model


@dataclass(slots=True)
class Times:
    """Add up where the time of one job went, in seconds."""

    queue_s: float = 0.0
    prepare_s: float = 0.0
    infer_s: float = 0.0
    finish_s: float = 0.0


@dataclass(slots=True)
class Group:
    """Hold outputs that the asks from `first` on share, `rows` of them each."""

    first: int
    rows: Sequence[int]
    outputs: Mapping[str, Array]


@dataclass(slots=True)
class Outcome:
    """Hold what became of each ask of a job, by its place: outputs or answers, or an error."""

    times: Times = field(default_factory=Times)
    errors: dict[int, BaseException] = field(default_factory=dict)
    not_finite: set[int] = field(default_factory=set)
    groups: list[Group] = field(default_factory=list)
    answers: dict[int, list[Answer]] = field(default_factory=dict)


class Runner:
    """Answer jobs from several threads; at most `engines` of them are in the engine at once."""

    def __init__(self, model: Model, engines: int) -> None:
        self._model = model
        self._engine = threading.Lock() if engines == 1 else threading.Semaphore(engines)

    def run_tensors(self, inputs: Mapping[str, Array], rows: Sequence[int]) -> Outcome:
        """Answer asks of `rows` rows each, which lie one after the other in `inputs`."""
        outcome = Outcome()
        try:
            self._run_rows(inputs, rows, 0, outcome)
        except Exception as error:  # noqa: BLE001 - a model may fail in any way, and must not take its process down
            if len(rows) == 1:
                outcome.errors[0] = error
                return outcome
            self._run_each(inputs, rows, outcome)
        return outcome

    def run_items(self, asks: Sequence[Sequence[Item]]) -> Outcome:
        """Answer asks of one or more items each."""
        outcome = Outcome(answers={place: [] for place in range(len(asks))})
        todo = [(place, item) for place, items in enumerate(asks) for item in items]
        size = self._model.max_batch
        for start in range(0, len(todo), size):
            chunk = [entry for entry in todo[start : start + size] if entry[0] not in outcome.errors]
            if not chunk:
                continue
            try:
                self._run_chunk(chunk, outcome)
            except Exception as error:  # noqa: BLE001 - as above
                self._blame(chunk, error, outcome)
        return outcome

    def _run_each(self, inputs: Mapping[str, Array], rows: Sequence[int], outcome: Outcome) -> None:
        start = 0
        for place, count in enumerate(rows):
            own = {name: values[start : start + count] for name, values in inputs.items()}
            start += count
            try:
                self._run_rows(own, [count], place, outcome)
            except Exception as error:  # noqa: BLE001 - as above
                outcome.errors[place] = error

    def _run_rows(self, inputs: Mapping[str, Array], rows: Sequence[int], first: int, outcome: Outcome) -> None:
        total = sum(rows)
        fixed = self._model.fixed_batch
        is_short = fixed is not None and 0 < total < fixed
        outputs = self._infer(_grown(inputs, fixed or 0) if is_short else inputs, outcome.times)
        if is_short:
            outputs = {name: values[:total] for name, values in outputs.items()}
        if len(rows) > 1 and any(not values.ndim or values.shape[0] != total for values in outputs.values()):
            raise FerrymanError(f"the model gave no row for each of {total}")
        _note_not_finite(outputs, rows, first, outcome)
        outcome.groups.append(Group(first, rows, outputs))

    def _run_chunk(self, chunk: Sequence[tuple[int, Item]], outcome: Outcome) -> None:
        times, task = outcome.times, self._model.task
        items = [item for _, item in chunk]
        missing = max((self._model.fixed_batch or 0) - len(items), 0)
        began_s = time.perf_counter()
        batch = task.preprocess(items + [items[-1]] * missing)
        times.prepare_s += time.perf_counter() - began_s
        outputs = self._infer(batch.inputs, times)
        began_s = time.perf_counter()
        answers = task.postprocess(outputs, batch)[: len(items)]
        places = [place for place, _ in chunk]
        _note_not_finite(outputs, [1] * len(items), 0, outcome, places)
        for place, answer in zip(places, answers, strict=True):
            outcome.answers[place].append(answer)
        times.finish_s += time.perf_counter() - began_s

    def _blame(self, chunk: Sequence[tuple[int, Item]], error: BaseException, outcome: Outcome) -> None:
        """Ask again, each ask's items by themselves: only who fails alone is guilty."""
        places = list(dict.fromkeys(place for place, _ in chunk))
        if len(places) == 1:
            outcome.errors[places[0]] = error
            return
        for own in places:
            try:
                self._run_chunk([entry for entry in chunk if entry[0] == own], outcome)
            except Exception as own_error:  # noqa: BLE001 - as above
                outcome.errors[own] = own_error

    def _infer(self, inputs: Mapping[str, Array], times: Times) -> Mapping[str, Array]:
        asked_s = time.perf_counter()
        with self._engine:
            began_s = time.perf_counter()
            outputs = self._model.session.infer(inputs)
            times.infer_s += time.perf_counter() - began_s
        times.queue_s += began_s - asked_s
        return outputs


def _grown(inputs: Mapping[str, Array], size: int) -> dict[str, Array]:
    """Repeat the last row until there are `size`."""
    return {
        name: np.concatenate([values, np.repeat(values[-1:], size - values.shape[0], axis=0)])
        for name, values in inputs.items()
    }


def _note_not_finite(
    outputs: Mapping[str, Array],
    rows: Sequence[int],
    first: int,
    outcome: Outcome,
    places: Sequence[int] | None = None,
) -> None:
    floats = [values for values in outputs.values() if values.dtype.kind in "fc"]
    bad = [values for values in floats if not np.isfinite(values).all()]
    for values in bad:
        has_rows = bool(values.ndim) and values.shape[0] >= sum(rows)
        start = 0
        for place, count in zip(places or range(first, first + len(rows)), rows, strict=True):
            own = values[start : start + count] if has_rows else values
            start += count
            if not np.isfinite(own).all():
                outcome.not_finite.add(place)
