"""Examine a candidate against its source on the user's data: tensors, answers, metric, confidences."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ferryman.core.errors import DataError
from ferryman.core.progress import Progress, silent
from ferryman.core.proof import Accuracy, Calibration, Parity, Record
from ferryman.core.runtime import Session
from ferryman.core.signature import Array, Tensors
from ferryman.core.task import Answer, Batch, Item, Measurement, Samples, Task
from ferryman.verify.accuracy import compare_metric
from ferryman.verify.parity import tensor_parity
from ferryman.verify.scores import compare_calibration, score_histogram

PARITY_SAMPLES = 8
_ROWS_A_CALL = 1024
_KEPT_BYTES = 1_500_000_000


class Examination(Record):
    """Hold what one candidate measured on the user's data; JSON, so that it can be cached."""

    parity: Parity
    agreement: dict[str, float]
    accuracy: Accuracy | None
    calibration: Calibration | None = None
    score_histogram: tuple[tuple[float, ...], tuple[float, ...]] | None
    samples: int = 0


class PreparedSamples:
    """Hold samples as model inputs, in calls of the size that the model takes; kept in memory while they fit."""

    def __init__(self, task: Task, samples: Samples, *, max_batch: int | None, rows_a_call: int | None = None) -> None:
        self.samples = samples
        self._task = task
        self._pads = max_batch is not None
        many = rows_a_call or int(getattr(task, "rows_a_call", _ROWS_A_CALL))
        self._size: int = max_batch or (many if samples.items and is_row(samples.items[0]) else 1)
        self._kept: dict[int, Batch] = {}
        self._kept_bytes = 0
        self._resized: dict[int, PreparedSamples] = {}

    def sized(self, max_batch: int | None) -> "PreparedSamples":
        """Give the same samples in calls of a fixed batch; None takes any, and so these."""
        if max_batch is None or (max_batch == self._size and (self._pads or max_batch == 1)):
            return self
        if max_batch not in self._resized:
            self._resized[max_batch] = PreparedSamples(self._task, self.samples, max_batch=max_batch)
        return self._resized[max_batch]

    def __len__(self) -> int:
        return -(-len(self.samples.items) // self._size)

    def places(self, index: int) -> range:
        """Give the places of the samples that a call holds, without those that only fill it up."""
        return range(index * self._size, min((index + 1) * self._size, len(self.samples.items)))

    def __getitem__(self, index: int) -> Batch:
        if index not in self._kept:
            items = list(self.samples.items[index * self._size : (index + 1) * self._size])
            if self._pads:
                items += [items[-1]] * (self._size - len(items))
            batch = self._task.preprocess(items)
            size_bytes = sum(array.nbytes for array in batch.inputs.values())
            if self._kept_bytes + size_bytes > _KEPT_BYTES:
                return batch
            self._kept[index], self._kept_bytes = batch, self._kept_bytes + size_bytes
        return self._kept[index]

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))


class CalibrationTensors(Sequence[Tensors]):
    """Show prepared samples as the model inputs that a calibrator wants."""

    def __init__(self, prepared: PreparedSamples) -> None:
        self._prepared = prepared

    def __len__(self) -> int:
        return len(self._prepared)

    def __getitem__(self, index: int) -> Tensors:  # type: ignore[override]  # no slices: calibrators index and iterate
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._prepared[index].inputs


def is_row(item: Item) -> bool:
    """Tell whether an item is a table's row (many go in one call) and not a picture or named arrays."""
    return isinstance(item, Mapping) and not any(isinstance(value, np.ndarray) for value in item.values())


@dataclass(frozen=True, slots=True)
class Answers:
    """Hold one model's raw outputs of the first calls and its answers to all samples."""

    outputs: list[dict[str, Array]]
    answers: list[Answer]


def first_outputs(session: Session, prepared: PreparedSamples) -> list[dict[str, Array]]:
    """Run a model over the first calls alone: those whose raw outputs are compared."""
    return [session.infer(prepared[index].inputs) for index in range(min(len(prepared), PARITY_SAMPLES))]


def answer_samples(
    task: Task, session: Session, prepared: PreparedSamples, *, progress: Progress = silent, stage: str = "answers"
) -> Answers:
    """Run a model over all samples."""
    outputs: list[dict[str, Array]] = []
    answers: list[Answer] = []
    for index, batch in enumerate(prepared):
        result = session.infer(batch.inputs)
        if index < PARITY_SAMPLES:
            outputs.append(result)
        answers.extend(task.postprocess(result, batch))
        progress(stage, done=index + 1, total=len(prepared))
    return Answers(outputs=outputs, answers=answers[: len(prepared.samples.items)])


@dataclass(frozen=True, slots=True)
class Reference:
    """Hold the source model's own answers, which every candidate is set beside."""

    task: Task
    prepared: PreparedSamples
    given: Answers
    measurement: Measurement | None
    _parts: dict[tuple[str | int | None, ...], "Reference"] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def examine(self, got: Answers, *, metric: str | None, seed: int) -> Examination:
        """Set a candidate's answers beside the source's."""
        truths = self.prepared.samples.truths
        accuracy = calibration = None
        if self.measurement is not None and truths is not None:
            measured = self.task.measure(got.answers, truths, metric)
            accuracy = compare_metric(self.measurement, measured, len(truths), seed=seed)
            calibration = compare_calibration(self.measurement, measured)
        return Examination(
            parity=tensor_parity(self.given.outputs, got.outputs),
            agreement=self.task.agreement(self.given.answers, got.answers).figures,
            accuracy=accuracy,
            calibration=calibration,
            score_histogram=score_histogram(self.given.answers, got.answers),
            samples=len(got.answers),
        )

    def part(self, places: Sequence[int], *, metric: str | None) -> "Reference":
        """Give the reference of some of the samples alone; it is measured once."""
        key = (metric, *places)
        if key not in self._parts:
            self._parts[key] = self._refer_part(places, metric)
        return self._parts[key]

    def _refer_part(self, places: Sequence[int], metric: str | None) -> "Reference":
        every = self.prepared.samples
        truths = None if every.truths is None else [every.truths[place] for place in places]
        some = Samples([every.items[place] for place in places], [every.names[place] for place in places], truths)
        given = Answers(outputs=self.given.outputs, answers=[self.given.answers[place] for place in places])
        return refer(self.task, PreparedSamples(self.task, some, max_batch=None), given, metric=metric)


def refer(task: Task, prepared: PreparedSamples, given: Answers, *, metric: str | None) -> Reference:
    """Make the source's answers the reference, and measure its metric where there are labels."""
    floats = [
        array for outputs in given.outputs for array in outputs.values() if array.dtype.kind == "f" and array.size
    ]
    if floats and not any(np.isfinite(array).any() for array in floats):
        raise DataError(
            "the source model answers nothing but NaN and infinities on these samples: there is nothing to compare",
            hint="look for NaN in [data], and at [task] input",
        )
    truths = prepared.samples.truths
    measurement = task.measure(given.answers, truths, metric) if truths is not None else None
    return Reference(task=task, prepared=prepared, given=given, measurement=measurement)
