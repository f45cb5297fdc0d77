"""A loaded bundle that answers rows, sets aside those that it refuses, and reads the signals of all others."""

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Protocol, runtime_checkable

from ferryman.bundle.golden import check_golden
from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import Bundle
from ferryman.core.errors import BundleError, ContractBroken, InputError, TooLarge
from ferryman.core.plugins import runtime_for
from ferryman.core.record import Value
from ferryman.core.signature import Array
from ferryman.core.task import Answer, Item, bind_task
from ferryman.monitor.baseline import Baseline
from ferryman.monitor.signals.read import Signals

ROWS_A_CALL = 256
_PLACE = re.compile(r"^(row|item|picture) 1(, |: | )")
_LONGEST_TEXT = 500


@runtime_checkable
class _OfTables(Protocol):
    """Be the task of a table's model, which can refuse empty cells."""

    def refuse_missing(self, inputs: Mapping[str, Array], /) -> None:
        """Raise InputError for a number that is missing or infinite."""


@dataclass(frozen=True, slots=True)
class Call:
    """Say which rows of a chunk shared a call of the engine, and what it took in seconds."""

    first: int
    rows: int
    prepare_s: float
    infer_s: float
    finish_s: float


@dataclass(slots=True)
class Asked:
    """Hold answers by place, those that were refused with why ("refused", "failed") and the error, and the signals."""

    answers: dict[int, Answer] = field(default_factory=dict)
    refused: dict[int, tuple[str, str]] = field(default_factory=dict)
    columns: dict[str, list[Value]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)


class Model:
    """Answer with one bundle in this process; raises ContractBroken where its golden samples are answered wrong."""

    def __init__(self, path: Path, digest: str, *, threads: int) -> None:
        self.bundle: Bundle = load_bundle(path)
        if self.bundle.manifest.digest != digest:
            raise BundleError(f"{path} was replaced since the work began", hint="start anew with --again")
        runtime = runtime_for(self.bundle.artifact.format, serves=True).require()()
        self._session = runtime.load(self.bundle.artifact, threads=threads)
        self._task = bind_task(self.bundle.deployment.task, self._session.signature)
        wrong = [check for check in check_golden(self.bundle, self._task, self._session) if check.beyond]
        if wrong:
            figures = ", ".join(f"{name} {value:.4g}" for name, value in wrong[0].beyond.items())
            raise ContractBroken(
                f"golden sample '{wrong[0].name}' is answered otherwise than when it was verified: {figures}",
                hint="this machine or its engine computes otherwise: ferryman verify tells more",
            )
        self.baseline = Baseline.from_json(self.bundle.baseline)
        is_watched = self.baseline is not None and bool(self.baseline.signals)
        spec = self.bundle.deployment.task
        self._signals = Signals(spec, self._session.signature, self.baseline) if is_watched else None
        is_strict = getattr(spec, "missing", None) is False and isinstance(self._task, _OfTables)
        self._refuse = self._task.refuse_missing if is_strict and isinstance(self._task, _OfTables) else None

    def ask(self, items: Sequence[Item], places: Sequence[int]) -> Asked:
        """Answer items, each known by its place; one that is refused takes no answer away from the others."""
        asked = Asked()
        fixed = self._session.signature.max_batch
        size = fixed or min(getattr(self._task, "rows_a_call", 0) or ROWS_A_CALL, ROWS_A_CALL)
        if any(isinstance(item, Path) for item in items):
            size = fixed or 1  # as `ferryman infer` asks about files
        for start in range(0, len(items), size):
            self._call(items[start : start + size], places[start : start + size], asked)
        return asked

    def _call(self, items: Sequence[Item], places: Sequence[int], asked: Asked) -> None:
        try:
            self._try(items, places, asked)
        except Exception as error:  # noqa: BLE001 - a plug-in may raise anything: one row must not end the work
            if len(items) > 1:
                middle = len(items) // 2
                self._call(items[:middle], places[:middle], asked)
                self._call(items[middle:], places[middle:], asked)
                return
            is_refused = isinstance(error, InputError | TooLarge)
            text = _PLACE.sub("", str(error)) if is_refused else f"{type(error).__name__}: {error}"
            asked.refused[places[0]] = ("refused" if is_refused else "failed", text[:_LONGEST_TEXT])

    def _try(self, items: Sequence[Item], places: Sequence[int], asked: Asked) -> None:
        times = [time.perf_counter()]
        padded = list(items) + [items[-1]] * ((self._session.signature.max_batch or 0) - len(items))
        batch = self._task.preprocess(padded)
        if self._refuse is not None:
            self._refuse(batch.inputs)
        times.append(time.perf_counter())
        outputs = self._session.infer(batch.inputs)
        times.append(time.perf_counter())
        answers = self._task.postprocess(outputs, batch)[: len(items)]
        times.append(time.perf_counter())
        found: dict[str, list[Value]] = {}
        if self._signals is not None:
            found = self._signals.read(
                inputs=batch.inputs, items=items, contexts=batch.contexts[: len(items)], answers=answers,
                outputs=outputs, rows=len(items),
            )  # fmt: skip
        known = len(asked.answers)
        for name in asked.columns.keys() | found.keys():
            column = asked.columns.setdefault(name, [None] * known)
            column.extend(found.get(name, [None] * len(items)))
        asked.answers |= dict(zip(places, answers, strict=True))
        took = [end - begin for begin, end in pairwise(times)]
        asked.calls.append(Call(known, len(items), took[0], took[1], took[2]))

    def close(self) -> None:
        """Free the model."""
        with suppress(Exception):
            self._session.close()
