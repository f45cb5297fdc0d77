"""What a worker saw of a call of the engine, and its signals: read after the answers are on their way."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from ferryman.core.record import Value
from ferryman.core.signature import Array
from ferryman.core.task import Answer, Batch, Item, Task
from ferryman.monitor.signals.read import Signals

_log = logging.getLogger("ferryman.server")


@dataclass(frozen=True, slots=True)
class Sight:
    """Hold what one call of the engine took and gave, for asks at `places` with `rows` rows each; or its items."""

    places: Sequence[int]
    rows: Sequence[int]
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    items: Sequence[Item] | None = None
    contexts: Sequence[Any] = ()  # each task's own
    answers: Sequence[Answer] | None = None


def write_note(signals: Signals | None, task: Task, sights: Sequence[Sight]) -> bytes:
    """Give JSON: `p` places and rows, `c` a column of values for each signal, `t` the CPU seconds that it took.

    Of tensors, too, it is told what the task makes of them.
    """
    began_s = time.thread_time()
    if signals is None or not sights:
        return b"{}"
    try:
        places = [[place, rows] for sight in sights for place, rows in zip(sight.places, sight.rows, strict=True)]
        columns = _read(signals, [_answered(task, sight) for sight in sights])
        note = {"p": places, "c": columns, "t": round(time.thread_time() - began_s, 7)}
        return orjson.dumps(note, option=orjson.OPT_SERIALIZE_NUMPY)  # what is not a number is null
    except Exception:  # noqa: BLE001 - a plug-in's answers may be anything; watching never takes a worker down
        _log.exception("signals can't be read")
        return b"{}"


def _answered(task: Task, sight: Sight) -> Sight:
    """Give a sight with its answers, where those who asked took the tensors as they were."""
    if sight.answers is not None:
        return sight
    rows = sum(sight.rows)
    try:
        batch = Batch(dict(sight.inputs), (None,) * rows)
        answers = task.postprocess(sight.outputs, batch)
    except Exception:  # noqa: BLE001 - a task that needs to know the item itself
        return sight
    return replace(sight, answers=answers, contexts=batch.contexts)


def _read(signals: Signals, sights: Sequence[Sight]) -> Mapping[str, Sequence[Value]]:
    found = [_read_one(signals, sight) for sight in sights]
    if len(found) == 1:
        return found[0]
    columns: dict[str, list[Value]] = {name: [] for part in found for name in part}
    for part, sight in zip(found, sights, strict=True):
        for name, column in columns.items():
            column.extend(part.get(name, [None] * sum(sight.rows)))
    return columns


def _read_one(signals: Signals, sight: Sight) -> Mapping[str, Sequence[Value]]:
    rows = sum(sight.rows)
    return signals.read(
        inputs=sight.inputs,
        items=sight.items,
        contexts=sight.contexts[:rows],
        answers=sight.answers,
        outputs=sight.outputs,
        rows=rows,
    )
