"""The unit of work: some rows that are answered, written and noted as a whole."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

Cells = Mapping[str, Any]  # a cell is what a table or JSON holds
MOST_BYTES = 16 * 1024 * 1024
"""A chunk of long texts ends earlier than after its rows: memory stays bounded."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Hold rows `start` to `start + len(rows)` of the input, counted from 0."""

    number: int
    start: int
    rows: tuple[Cells, ...]


def chunks(
    rows: Iterable[Cells], most_rows: int, *, number: int = 0, start: int = 0, limit: int = 0
) -> Iterator[Chunk]:
    """Cut rows, the first of which is row `start`, into chunks that depend on nothing but the rows before them."""
    left: Iterable[Cells] = islice(rows, max(limit - start, 0)) if limit else rows
    held: list[Cells] = []
    size = 0
    for row in left:
        held.append(row)
        size += sum(len(cell) if isinstance(cell, str | bytes | list | dict) else 8 for cell in row.values())
        if len(held) >= most_rows or size >= MOST_BYTES:
            yield Chunk(number, start, tuple(held))
            number, start, held, size = number + 1, start + len(held), [], 0
    if held:
        yield Chunk(number, start, tuple(held))
