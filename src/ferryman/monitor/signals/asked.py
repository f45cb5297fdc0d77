"""One call of a model, as its signals are read from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from zlib import crc32

from ferryman.core.record import Value
from ferryman.core.signature import Array
from ferryman.core.task import Answer, Item

MISSING = float("nan")
MOST_CHARACTERS = 80
"""A category keeps so many characters of a longer text, and a digest of all."""

Found = dict[str, list[Value]]


@dataclass(frozen=True, slots=True)
class Asked:
    """Hold what went in and what came out for `rows` items; the tensors may have more rows, to fill up a batch."""

    inputs: Mapping[str, Array]
    items: Sequence[Item] | None
    contexts: Sequence[Any]  # each task's own
    answers: Sequence[Answer] | None
    outputs: Mapping[str, Array] | None
    rows: int

    def parts(self, values: Array) -> list[Array]:
        """Give each item's part of a tensor: its row, or as many as its context says, or all of it to one item."""
        counts = self.contexts[: self.rows]
        if counts and all(isinstance(count, int) for count in counts):
            if len(counts) == 1:
                return [values]
            ends = [sum(counts[: place + 1]) for place in range(len(counts))]
            return [values[end - count : end] for end, count in zip(ends, counts, strict=True)]
        if values.ndim and len(values) >= self.rows:
            return [values[row] for row in range(self.rows)]
        return [values] * self.rows


class Reader(Protocol):
    """Read some signals of a call."""

    def read(self, asked: Asked) -> Found:
        """Give signals by name, each with `asked.rows` values."""


def as_category(text: str) -> str:
    """Give a text as a category of bounded length; different texts stay different."""
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]}~{crc32(text.encode('utf-8', 'replace')):08x}"


def turned(rows: Sequence[Mapping[str, Value]], numbers: Sequence[str] = ()) -> Found:
    """Turn one mapping a row into one list a signal; what a row lacks is None, or NaN for one of `numbers`."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name, MISSING if name in numbers else None) for row in rows] for name in names}
