"""What the front sends, as records: facts by themselves, and facts beside what a worker saw."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ferryman.core.record import Columns, Record

_FIELDS = (
    "id", "model", "version", "at_s", "outcome", "transport", "trace", "total_s", "queue_s", "prepare_s", "infer_s",
    "finish_s", "asks", "rows",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold the records of one call of the engine, with all its columns, and the CPU seconds that a worker took."""

    records: Sequence[Record]
    columns: Columns
    looking_s: float


def read_records(told: Sequence[Sequence[Any]]) -> list[Record]:  # JSON: Facts
    """Give records without columns."""
    return [_record(facts, {}) for facts in told]


def read_looks(told: Sequence[Any]) -> Iterator[Seen]:  # JSON: Facts by place, and a worker's note
    """Give the records of each call, with the signals that are theirs; an ask without signals has none."""
    for facts, note in told:
        yield _read_look(facts, note)


def _read_look(facts: Sequence[Sequence[Any] | None], note: Mapping[str, Any]) -> Seen:  # JSON
    columns: Columns = note.get("c", {})
    parts: dict[int, list[slice]] = {}
    start = 0
    for place, rows in note.get("p", ()):
        parts.setdefault(place, []).append(slice(start, start + rows))
        start += rows
    known = {place: each for place, each in enumerate(facts) if each is not None}
    records = [_record(each, _cut(columns, parts.get(place, ()))) for place, each in known.items()]
    return Seen(records, columns if known else {}, note.get("t", 0.0))


def _cut(columns: Columns, parts: Sequence[slice]) -> Columns:
    if not parts:
        return {}
    return {name: [value for part in parts for value in values[part]] for name, values in columns.items()}


def _record(facts: Sequence[Any], columns: Columns) -> Record:  # JSON
    return Record(**dict(zip(_FIELDS, facts, strict=True)), columns=columns)
