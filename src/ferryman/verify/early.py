"""Examine a model on a part of the samples first: what is lost beyond doubt needs no more of them."""

import math
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import numpy as np

from ferryman.core.errors import FerrymanError, StepError
from ferryman.core.progress import Progress
from ferryman.core.runtime import Session
from ferryman.core.signature import Array
from ferryman.core.task import Answer, Task
from ferryman.verify.examine import PARITY_SAMPLES, Answers, Examination, PreparedSamples, Reference

LEAST_CALLS = 64
"""Fewer calls are made all at once: a part of them would tell too little."""
_EVERY = 4
_LEAST_DRAWN = 24


class Examiner:
    """Answer samples with one model, in parts if asked to, and set the answers beside a reference's.

    Nothing is loaded before it is needed, and no call is made twice. After `deadline` (time.monotonic) none is made.
    """

    def __init__(
        self,
        task: Task,
        prepared: PreparedSamples,
        load: Callable[[], Session],
        tell: Progress,
        *,
        deadline: float = math.inf,
    ) -> None:
        self._deadline = deadline
        self._task = task
        self._prepared = prepared
        self._load = load
        self._tell = tell
        self._session: Session | None = None
        self._outputs: dict[int, dict[str, Array]] = {}
        self._answers: dict[int, list[Answer]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._session is not None:
            self._session.close()

    @property
    def has_part(self) -> bool:
        """Tell whether there are enough calls for a part of them to tell anything."""
        return len(self._prepared) >= LEAST_CALLS

    def part(self, reference: Reference, *, stage: str, metric: str | None, seed: int) -> Examination | None:
        """Examine a quarter of the calls, drawn by `seed`, but 24 or more; None where they measure nothing.

        Drawn: samples may lie in the order of their classes, or in a cycle of them. The first calls are made, too, as
        their raw outputs are compared. A risk is left: a call is drawn as a whole, so that where it holds several
        samples that are alike, the part is more one-sided than its interval tells.
        """
        count = len(self._prepared)
        most = min(count, max(count // _EVERY, _LEAST_DRAWN))
        drawn = sorted(np.random.default_rng(seed).choice(count, most, replace=False).tolist())
        self._answer(range(min(count, PARITY_SAMPLES)), stage)
        given = self._answer(drawn, stage)
        places = [place for call in drawn for place in self._prepared.places(call)]
        try:
            return reference.part(places, metric=metric).examine(given, metric=metric, seed=seed)
        except FerrymanError:
            return None  # a metric may ask for classes that this part lacks

    def whole(self, reference: Reference, *, stage: str, metric: str | None, seed: int) -> Examination:
        """Examine all samples."""
        return reference.examine(self._answer(range(len(self._prepared)), stage), metric=metric, seed=seed)

    def _answer(self, calls: Sequence[int], stage: str) -> Answers:
        if self._session is None:
            self._session = self._load()
        for call in calls:
            if call not in self._answers:
                if time.monotonic() > self._deadline:
                    raise StepError(f"out of time after {len(self._answers)} of {len(self._prepared)} calls")
                batch = self._prepared[call]
                result = self._session.infer(batch.inputs)
                if call < PARITY_SAMPLES:
                    self._outputs[call] = result
                self._answers[call] = self._task.postprocess(result, batch)[: len(self._prepared.places(call))]
                self._tell(stage, done=len(self._answers), total=len(self._prepared))
        outputs = [self._outputs[call] for call in sorted(self._outputs)]
        return Answers(outputs=outputs, answers=[answer for call in calls for answer in self._answers[call]])
