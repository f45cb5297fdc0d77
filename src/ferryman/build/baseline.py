"""Measure what the chosen model's signals look like on the user's own samples: what live traffic is set beside."""

from collections.abc import Collection, Sequence
from contextlib import closing
from typing import Any

from pydantic import JsonValue

from ferryman.build.samples import RANDOM, list_served
from ferryman.build.workshop import Workshop
from ferryman.core.artifact import Artifact
from ferryman.core.record import Columns, Value
from ferryman.monitor.baseline import Baseline, make_baseline
from ferryman.monitor.signals.read import Signals
from ferryman.monitor.signals.rows import CELL, RowJudge
from ferryman.tasks.files import spread

_MOST_CALLS = 1000
_MOST_ROWS = 10_000
_FOLDS = 10


def measure_baseline(workshop: Workshop, artifact: Artifact) -> dict[str, Any]:  # JSON
    """Give the baseline of all signals, as `Baseline.to_json` writes it; no signal where the samples were made up.

    They are those of the evaluation samples (at most 1,000 calls and 10,000 rows, evenly spread) that a server takes.
    """

    def measure() -> JsonValue:
        if workshop.samples.digest.startswith(RANDOM):
            return Baseline({}, 0).to_json()
        columns = _read(workshop, artifact)
        return make_baseline({**columns, **_judged_apart(columns)}).to_json()

    key: JsonValue = [workshop.run_by(artifact), workshop.samples.digest, workshop.task_key]
    stored: dict[str, Any] = workshop.cache.values("baseline", key, measure)  # JSON
    return stored


def _read(workshop: Workshop, artifact: Artifact) -> dict[str, list[Value]]:
    prepared = workshop.prepared.sized(artifact.signature.max_batch)
    signals = Signals(workshop.deployment.task, artifact.signature)
    served = frozenset(list_served(workshop))
    most = max(1, min(_MOST_CALLS, _MOST_ROWS // max(len(prepared.places(0)), 1)))
    parts: list[dict[str, list[Value]]] = []
    rows: list[range] = []
    with closing(workshop.open(artifact)) as session:
        calls = spread(len(prepared), most)
        for done, call in enumerate(calls, start=1):
            batch, places = prepared[call], prepared.places(call)
            outputs = session.infer(batch.inputs)
            parts.append(
                signals.read(
                    inputs=batch.inputs,
                    items=[workshop.samples.items[place] for place in places],
                    contexts=batch.contexts,
                    answers=workshop.task.postprocess(outputs, batch)[: len(places)],
                    outputs=outputs,
                    rows=len(places),
                )
            )
            rows.append(places)
            workshop.progress("baseline of the signals", done=done, total=len(calls))
    for reader, count in signals.unread.items():
        workshop.progress("bundle", note=f"warning: {count} of {len(parts)} calls have no signals of their {reader}")
    return _joined(parts, rows, served)


def _joined(parts: Sequence[Columns], rows: Sequence[range], kept: Collection[int]) -> dict[str, list[Value]]:
    """Put the columns of calls one after the other, None where a call lacks one; take the samples that are kept."""
    columns: dict[str, list[Value]] = {name: [] for part in parts for name in part}
    for name, column in columns.items():
        for part, places in zip(parts, rows, strict=True):
            values = part.get(name, [None] * len(places))
            column += [value for value, place in zip(values, places, strict=True) if place in kept]
    return columns


def _judged_apart(columns: Columns) -> Columns:
    """Judge each row by a baseline of other rows: by its own, none would be out of range."""
    cells = {name: values for name, values in columns.items() if name.startswith(CELL)}
    count = max(map(len, cells.values()), default=0)
    if count < 2:
        return {}
    judged: dict[str, list[Value]] = {}
    folds = min(_FOLDS, count)
    for fold in range(folds):
        own = range(fold, count, folds)
        others = [row for row in range(count) if row % folds != fold]
        baseline = make_baseline({name: [values[row] for row in others] for name, values in cells.items()})
        found = RowJudge(baseline).judge({name: [values[row] for row in own] for name, values in cells.items()})
        for name, values in found.items():
            judged.setdefault(name, [None] * count)[fold::folds] = values
    return judged
