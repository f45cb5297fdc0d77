"""What a model's tensors mean: preprocessing, postprocessing and metrics, as data and four methods."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ferryman.core.plugins import find
from ferryman.core.runtime import Session
from ferryman.core.signature import Array, Signature

Item = Path | bytes | Array | Mapping[str, Any]  # a row's cells or named arrays: the user's own types
"""One thing to ask about: a picture, encoded (file or bytes) or decoded (uint8 HxWx3 BGR), a table's row, or arrays."""

Answer = dict[str, Any]  # JSON: what the server sends, the golden samples hold and the metrics read
Truth = Any  # what the data set says of one item, in the form that the task's `measure` takes


class TaskSpec(BaseModel):
    """Be the `[task]` section of ferryman.toml; each kind of task has a subclass with its own keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str

    def resolved(self, folder: Path) -> Self:
        """Give this spec with what it names in files (labels) read from `folder`, so that it stands by itself."""
        return self

    def packed(self) -> tuple[Self, Mapping[str, Path]]:
        """Give this spec as a bundle holds it, and the files that go along: names under `task/`, and where they lie."""
        return self, {}

    def unpacked(self, folder: Path) -> Self:
        """Give a spec that a bundle holds, knowing the bundle's folder: its files are found there, and nowhere else."""
        return self


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold model inputs for some items and, per item, what `postprocess` needs to come back (scale, size)."""

    inputs: dict[str, Array]
    contexts: tuple[Any, ...]  # each task's own


class PictureInput(Protocol):
    """Be a task spec's `input` where the model takes pictures: how pixels of 0..255 became its input tensor.

    value = (pixel * scale - mean) / std; `mean` and `std` have one value, or one a channel.
    """

    @property
    def channels(self) -> str:
        """Name the order of the channels: RGB, BGR or GRAY."""

    @property
    def layout(self) -> str:
        """Name the order of the tensor's dimensions: NCHW or NHWC."""

    @property
    def scale(self) -> float:
        """Give the factor on pixels."""

    @property
    def mean(self) -> Sequence[float]:
        """Give what is subtracted then."""

    @property
    def std(self) -> Sequence[float]:
        """Give what is divided by then."""


class Placed(Protocol):
    """Be a picture's context in a Batch: where it lies in the input; a task may give others.

    Input pixel = picture pixel * scale + offset; `width` and `height` are the picture's own, in pixels.
    """

    @property
    def scale_x(self) -> float:
        """Give the factor on columns."""

    @property
    def scale_y(self) -> float:
        """Give the factor on rows."""

    @property
    def left(self) -> float:
        """Give the column of the picture's left edge in the input."""

    @property
    def top(self) -> float:
        """Give the row of its upper edge."""

    @property
    def width(self) -> int:
        """Give the picture's width."""

    @property
    def height(self) -> int:
        """Give the picture's height."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Hold items, their names for messages and, where the data set has labels, the truth of each."""

    items: Sequence[Item]
    names: Sequence[str]
    truths: Sequence[Truth] | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Say how far two lists of answers are apart: every figure is a distance, 0 where they are equal.

    `score_shift` (mean change of confidence) is there only where scores were compared.
    """

    figures: dict[str, float]

    def beyond(self, tolerance: Mapping[str, float]) -> dict[str, float]:
        """Give the figures that are over their tolerance; a figure that is not a number is always over."""
        return {
            name: self.figures.get(name, float("nan"))
            for name, limit in tolerance.items()
            if not self.figures.get(name, float("nan")) <= limit
        }


@dataclass(frozen=True, slots=True)
class Measurement:
    """Hold a metric's value on labelled data and a way to measure it again on resampled items.

    `resampled` maps item indices, int64 [B, N], to the metric's value on each of the B resamples, float64 [B].
    """

    metric: str
    value: float
    higher_is_better: bool
    resampled: Callable[[NDArray[np.int64]], NDArray[np.float64]]
    figures: dict[str, float] = field(default_factory=dict)
    outcomes: tuple[NDArray[np.float64], NDArray[np.bool_]] | None = None
    """Where answers have confidences: each of them, [N], and whether what it was given for is true, [N]."""


class Task(Protocol):
    """Give one model's tensors their meaning. Built from its spec and the model's signature; holds no other state.

    A class attribute `rows_a_call` bounds how many of its items go in one call where the model takes any number.
    """

    kind: ClassVar[str]
    Spec: ClassVar[type[TaskSpec]]
    tolerance: ClassVar[Mapping[str, float]]
    """The distances that count as the same answer from the same model (a golden sample)."""

    def preprocess(self, items: Sequence[Item]) -> Batch:
        """Turn items into model inputs; raises InputError that names what is wrong with which item."""

    def postprocess(self, outputs: Mapping[str, Array], batch: Batch) -> list[Answer]:
        """Turn model outputs into one answer an item."""

    def agreement(self, reference: Sequence[Answer], answers: Sequence[Answer]) -> Agreement:
        """Compare answers with those of a reference on the same items."""

    def measure(self, answers: Sequence[Answer], truths: Sequence[Truth], metric: str | None) -> Measurement:
        """Compute `metric` (None: the task's usual one); raises ConfigError for a metric that the task lacks."""


class TaskFactory(Protocol):
    """Be the class of a task: what its entry point names."""

    kind: ClassVar[str]
    Spec: ClassVar[type[TaskSpec]]

    def __call__(self, spec: Any, signature: Signature) -> Task:  # its own Spec
        """Bind the spec to a model; raises ConfigError where they don't fit."""


def bind_task(spec: TaskSpec, signature: Signature) -> Task:
    """Make the installed task of this kind for a model; raises ConfigError where they don't fit."""
    task: Task = find("tasks", spec.kind).require()(spec, signature)
    return task


def infer_items(task: Task, session: Session, items: Sequence[Item]) -> list[Answer]:
    """Answer items with a loaded model, in calls of the model's batch where that is fixed, else of the task's."""
    size = session.signature.max_batch or getattr(task, "rows_a_call", 0) or max(len(items), 1)
    answers: list[Answer] = []
    for start in range(0, len(items), size):
        chunk = list(items[start : start + size])
        padded = chunk + [chunk[-1]] * ((session.signature.max_batch or 0) - len(chunk))
        batch = task.preprocess(padded)
        answers.extend(task.postprocess(session.infer(batch.inputs), batch)[: len(chunk)])
    return answers
