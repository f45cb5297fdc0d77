"""Answer jobs with a loaded model: prepare, call the engine, finish; one bad request never spoils another."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ferryman.core.errors import FerrymanError, InputError
from ferryman.core.signature import Array
from ferryman.core.task import Answer, Batch, Item
from ferryman.server.data.worker.loading import Model
from ferryman.server.data.worker.sight import Sight, write_note


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
    sights: list[Sight] | None = None  # None: nobody looks


@dataclass(frozen=True, slots=True)
class _Asks:
    """Hold asks by their places, with the tensors that they share, `rows` of them each."""

    places: Sequence[int]
    rows: Sequence[int]
    tensors: Mapping[str, Array]

    def apart(self) -> Iterator["_Asks"]:
        """Give each ask by itself."""
        start = 0
        for place, count in zip(self.places, self.rows, strict=True):
            own = {name: values[start : start + count] for name, values in self.tensors.items()}
            yield _Asks([place], [count], own)
            start += count


class Runner:
    """Answer jobs from several threads; at most `engines` of them are in the engine at once."""

    def __init__(self, model: Model, engines: int) -> None:
        self._model = model
        self._engine = threading.Lock() if engines == 1 else threading.Semaphore(engines)

    def run_tensors(self, inputs: Mapping[str, Array], rows: Sequence[int], *, looks: bool = False) -> Outcome:
        """Answer asks of `rows` rows each, which lie one after the other in `inputs`."""
        outcome = Outcome(sights=[] if looks else None)
        asks = _Asks(range(len(rows)), rows, inputs)
        error = self._refusal(asks)
        if error is not None:
            asks = self._accepted(asks, error, outcome)
        if not asks.places:
            return outcome
        try:
            self._run_asks(asks, outcome)
        except Exception as failure:  # noqa: BLE001 - a model may fail in any way, and must not take its process down
            self._run_each(asks, failure, outcome)
        return outcome

    def note(self, outcome: Outcome) -> bytes:
        """Tell what was seen, as `sight.write_note` has it."""
        return write_note(self._model.signals, self._model.task, outcome.sights or ())

    def run_items(self, asks: Sequence[Sequence[Item]], *, looks: bool = False) -> Outcome:
        """Answer asks of one or more items each."""
        outcome = Outcome(answers={place: [] for place in range(len(asks))}, sights=[] if looks else None)
        todo = [(place, item) for place, items in enumerate(asks) for item in items]
        size = self._model.max_batch
        for start in range(0, len(todo), size):
            if chunk := [entry for entry in todo[start : start + size] if entry[0] not in outcome.errors]:
                self._answer(chunk, outcome)
        for place, found in outcome.errors.items():
            if isinstance(found, InputError) and outcome.answers[place]:
                outcome.errors[place] = self._numbered(asks[place], found)
        return outcome

    def _numbered(self, items: Sequence[Item], error: InputError) -> InputError:
        """Give the error of an ask's later chunk as it reads for the whole ask: a chunk numbers its items from 1."""
        try:
            self._prepare(items)
        except InputError as whole:
            return whole
        except Exception:  # noqa: BLE001 - as above
            return error
        return error

    def _refusal(self, asks: _Asks) -> BaseException | None:
        try:
            if self._model.refuse is not None:
                self._model.refuse(asks.tensors)
        except Exception as error:  # noqa: BLE001 - as above
            return error
        return None

    def _accepted(self, asks: _Asks, error: BaseException, outcome: Outcome) -> _Asks:
        """Note whose rows are refused, and give the others, still together."""
        if len(asks.places) == 1:
            outcome.errors[asks.places[0]] = error
            return _Asks((), (), {})
        good = []
        for own in asks.apart():
            if (refusal := self._refusal(own)) is None:
                good.append(own)
            else:
                outcome.errors[own.places[0]] = refusal
        inputs = {name: np.concatenate([own.tensors[name] for own in good]) for name in asks.tensors} if good else {}
        return _Asks([own.places[0] for own in good], [own.rows[0] for own in good], inputs)

    def _run_each(self, asks: _Asks, failure: BaseException, outcome: Outcome) -> None:
        if len(asks.places) == 1:
            outcome.errors[asks.places[0]] = failure
            return
        for own in asks.apart():
            try:
                self._run_asks(own, outcome)
            except Exception as error:  # noqa: BLE001 - as above
                outcome.errors[own.places[0]] = error

    def _run_asks(self, asks: _Asks, outcome: Outcome) -> None:
        total = sum(asks.rows)
        fixed = self._model.fixed_batch
        is_short = fixed is not None and 0 < total < fixed
        outputs = self._infer(_grown(asks.tensors, fixed or 0) if is_short else asks.tensors, outcome.times)
        if is_short:
            outputs = {name: values[:total] for name, values in outputs.items()}
        if len(asks.rows) > 1 and any(not values.ndim or values.shape[0] != total for values in outputs.values()):
            raise FerrymanError(f"the model gave no row for each of {total}")
        _note_not_finite(outputs, asks.rows, asks.places, outcome)
        if outcome.sights is not None:
            outcome.sights.append(Sight(asks.places, asks.rows, asks.tensors, outputs))
        answered = _Asks(asks.places, asks.rows, outputs)
        has_gaps = asks.places[-1] - asks.places[0] >= len(asks.places)
        for part in answered.apart() if has_gaps else [answered]:
            outcome.groups.append(Group(part.places[0], part.rows, part.tensors))

    def _answer(self, chunk: Sequence[tuple[int, Item]], outcome: Outcome) -> None:
        """Answer items together; where that fails, without those that can't be prepared, or each ask by itself."""
        try:
            self._run_chunk(chunk, outcome)
        except Exception as error:  # noqa: BLE001 - as above
            parts: dict[int, list[tuple[int, Item]]] = {}
            for entry in chunk:
                parts.setdefault(entry[0], []).append(entry)
            if len(parts) == 1:
                outcome.errors[chunk[0][0]] = error
                return
            good = self._prepared(parts, outcome) if isinstance(error, InputError) else parts
            if 0 < len(good) < len(parts):
                self._answer([entry for part in good.values() for entry in part], outcome)
                return
            for part in good.values():
                self._answer(part, outcome)

    def _prepared(
        self, parts: Mapping[int, list[tuple[int, Item]]], outcome: Outcome
    ) -> dict[int, list[tuple[int, Item]]]:
        """Note which asks can't be prepared, and give the others."""
        good = {}
        for place, part in parts.items():
            try:
                self._prepare([item for _, item in part])
            except Exception as error:  # noqa: BLE001 - as above
                outcome.errors[place] = error
            else:
                good[place] = part
        return good

    def _prepare(self, items: Sequence[Item]) -> Batch:
        batch = self._model.task.preprocess(items)
        if self._model.refuse is not None:
            self._model.refuse(batch.inputs)
        return batch

    def _run_chunk(self, chunk: Sequence[tuple[int, Item]], outcome: Outcome) -> None:
        times = outcome.times
        items = [item for _, item in chunk]
        missing = max((self._model.fixed_batch or 0) - len(items), 0)
        began_s = time.perf_counter()
        batch = self._prepare(items + [items[-1]] * missing)
        times.prepare_s += time.perf_counter() - began_s
        outputs = self._infer(batch.inputs, times)
        began_s = time.perf_counter()
        answers = self._model.task.postprocess(outputs, batch)[: len(items)]
        places = [place for place, _ in chunk]
        _note_not_finite(outputs, [1] * len(items), places, outcome)
        for place, answer in zip(places, answers, strict=True):
            outcome.answers[place].append(answer)
        if outcome.sights is not None:
            seen = Sight(places, [1] * len(items), batch.inputs, outputs, items, batch.contexts, answers)
            outcome.sights.append(seen)
        times.finish_s += time.perf_counter() - began_s

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
    outputs: Mapping[str, Array], rows: Sequence[int], places: Sequence[int], outcome: Outcome
) -> None:
    floats = [values for values in outputs.values() if values.dtype.kind in "fc"]
    bad = [values for values in floats if not np.isfinite(values).all()]
    for values in bad:
        has_rows = bool(values.ndim) and values.shape[0] >= sum(rows)
        start = 0
        for place, count in zip(places, rows, strict=True):
            own = values[start : start + count] if has_rows else values
            start += count
            if not np.isfinite(own).all():
                outcome.not_finite.add(place)
