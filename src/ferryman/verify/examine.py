"""Examine a candidate against its source on the user's data: tensors, answers, metric, confidences."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ferryman.core.errors import DataError
from ferryman.core.progress import Progress, silent
from ferryman.core.proof import Accuracy, Parity, Record
from ferryman.core.runtime import Session
from ferryman.core.signature import Array, Tensors
from ferryman.core.task import Answer, Batch, Item, Measurement, Samples, Task
from ferryman.verify.accuracy import compare_metric
from ferryman.verify.parity import tensor_parity
from ferryman.verify.scores import score_histogram

PARITY_SAMPLES = 8
_ROWS_A_CALL = 1024
_KEPT_BYTES = 1_500_000_000


class Examination(Record):
    """Hold what one candidate measured on the user's data; JSON, so that it can be cached."""

    parity: Parity
    agreement: dict[str, float]
    accuracy: Accuracy | None
    score_histogram: tuple[tuple[float, ...], tuple[float, ...]] | None


class PreparedSamples:
    """Hold samples as model inputs, in calls of the size that the model takes; kept in memory while they fit."""

    def __init__(self, task: Task, samples: Samples, *, max_batch: int | None) -> None:
        self.samples = samples
        self._task = task
        self._pads = max_batch is not None
        self._size = max_batch or (_ROWS_A_CALL if samples.items and is_row(samples.items[0]) else 1)
        self._kept: dict[int, Batch] = {}
        self._kept_bytes = 0

    def __len__(self) -> int:
        return -(-len(self.samples.items) // self._size)

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

    def examine(self, got: Answers, *, metric: str | None, seed: int) -> Examination:
        """Set a candidate's answers beside the source's."""
        truths = self.prepared.samples.truths
        accuracy = None
        if self.measurement is not None and truths is not None:
            measured = self.task.measure(got.answers, truths, metric)
            accuracy = compare_metric(self.measurement, measured, len(truths), seed=seed)
        return Examination(
            parity=tensor_parity(self.given.outputs, got.outputs),
            agreement=self.task.agreement(self.given.answers, got.answers).figures,
            accuracy=accuracy,
            score_histogram=score_histogram(self.given.answers, got.answers),
        )


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
