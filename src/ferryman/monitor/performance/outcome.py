"""One answer beside what turned out to be true."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ferryman.core.record import Value
from ferryman.monitor.performance.feedback import Feedback, Truth, name_label
from ferryman.monitor.signals.asked import as_category

Floats = NDArray[np.float64]
Misfit = Literal["unfit", "unanswered"]

LABEL, CONFIDENCE, VALUE, OBJECTS = "answer.label", "answer.confidence", "answer.value", "answer.objects"
_MOST_SIGNALS = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold an answer's label, value or number of objects (None: it has none), what was true, and the item's signals.

    `right` is None where that can't be said of it: of a value, or a number of objects. `at_s` is when the request
    came, `told_s` when the truth was found out.
    """

    id: str
    item: int
    model: str
    version: str
    at_s: float
    told_s: float
    right: bool | None
    label: str | None = None
    value: float | None = None
    objects: float | None = None
    confidence: float | None = None
    truth: Truth = None
    signals: Mapping[str, Value] = field(default_factory=dict)


def meet(feedback: Feedback, record: Mapping[str, Any]) -> Outcome | Misfit:  # a row of the table `records`
    """Set feedback beside its item's record: `unanswered` where that failed, `unfit` where it answers otherwise."""
    label, value, objects = record.get(f"c_{LABEL}"), record.get(f"s_{VALUE}"), record.get(f"s_{OBJECTS}")
    if label is None and value is None and objects is None and feedback.right is None:
        return "unanswered"
    right, truth = feedback.right, feedback.truth
    if feedback.objects is not None:
        if objects is None:
            return "unfit"
        truth = feedback.objects
    elif truth is not None:
        if objects is not None:
            return "unfit"
        if label is not None:
            truth = as_category(name_label(truth))
            right = truth == label
        else:
            truth = _as_number(truth)
    if truth is None and right is None:
        return "unfit"
    return Outcome(
        id=feedback.id, item=feedback.item, model=record["model"], version=record["version"], at_s=record["at_s"],
        told_s=feedback.at_s, right=right, label=label, value=value, objects=objects,
        confidence=record.get(f"s_{CONFIDENCE}"), truth=truth, signals=_signals(record),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Hold outcomes of one version in the order of their requests, as columns [N]; NaN or None where there is none."""

    rows: Sequence[Outcome]
    at_s: Floats
    right: Floats
    value: Floats
    objects: Floats
    truth: Floats
    """What was true, where it is a number of objects or a value."""

    def last(self, count: int) -> "Outcomes":
        """Give the latest ones."""
        start = max(0, len(self.rows) - count)
        columns = (each[start:] for each in (self.at_s, self.right, self.value, self.objects, self.truth))
        return Outcomes(self.rows[start:], *columns)


def columns_of(rows: Sequence[Outcome]) -> Outcomes:
    """Order outcomes by time, and give them as columns."""
    ordered = sorted(rows, key=lambda row: (row.at_s, row.id, row.item))
    truths = [row.truth if row.label is None else None for row in ordered]
    return Outcomes(
        ordered,
        np.asarray([row.at_s for row in ordered], np.float64),
        _floats([row.right for row in ordered]),
        _floats([row.value for row in ordered]),
        _floats([row.objects for row in ordered]),
        _floats([truth if isinstance(truth, float) else None for truth in truths]),
    )


def _floats(values: Sequence[float | None]) -> Floats:
    return np.asarray([math.nan if value is None else float(value) for value in values], np.float64)


def _as_number(truth: Truth) -> float | None:
    try:
        number = float(truth) if truth is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _signals(record: Mapping[str, Any]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for column, value in record.items():
        kind, _, name = column.partition("_")
        if kind == "c" and name != LABEL and isinstance(value, str):
            found[name] = value
        elif kind == "s" and isinstance(value, float) and math.isfinite(value):
            found[name] = float(f"{value:.5g}")
    return dict(sorted(found.items(), key=lambda entry: isinstance(entry[1], float))[:_MOST_SIGNALS])
