"""Signals of table rows: every cell, and what is missing."""

from typing import Any

import numpy as np

from ferryman.core.record import Value
from ferryman.core.signature import Array, Signature
from ferryman.monitor.signals.asked import MISSING, Asked, Found, as_category

MOST_CELLS = 200
"""Of wider tables so many columns are watched, evenly spread."""


class CellReader:
    """Read `cell.COLUMN` of each row, a number or a category, and `row.missing`, the share of its cells without one.

    All comes from the tensors, so that rows and tensors that a caller made give the same.
    """

    def __init__(self, columns: tuple[str, ...] | None, layout: str | None, signature: Signature) -> None:
        first = signature.inputs[0]
        is_matrix = len(signature.inputs) == 1 and len(first.shape) == 2 and first.dtype != "string"
        self._matrix = first.name if is_matrix and (layout == "matrix" or first.shape[1] != 1) else ""
        self._columns = columns
        names = columns or tuple(port.name for port in signature.inputs)
        ports = [port.name for port in signature.inputs]
        by_name = set(names) == set(ports)
        self._single = {name: name if by_name else port for name, port in zip(names, ports, strict=False)}

    def read(self, asked: Asked) -> Found:
        """Give the cells of each row."""
        if self._matrix:
            table = np.asarray(asked.inputs[self._matrix][: asked.rows], np.float64)
            names = self._columns or tuple(map(str, range(table.shape[1])))
            columns = table.T.tolist()
            cells: dict[str, list[Value]] = {names[place]: columns[place] for place in _spread(table.shape[1])}
            missing = np.isnan(table).mean(axis=1)
        else:
            names = tuple(self._single)
            every = {name: _cells(asked.inputs[self._single[name]][: asked.rows]) for name in names}
            missing = np.mean([[cell is None or cell != cell for cell in column] for column in every.values()], axis=0)
            cells = {names[place]: every[names[place]] for place in _spread(len(names))}
        return {f"cell.{name}": values for name, values in cells.items()} | {"row.missing": missing.tolist()}


def _spread(count: int) -> list[int]:
    if count <= MOST_CELLS:
        return list(range(count))
    return sorted({round(place * (count - 1) / (MOST_CELLS - 1)) for place in range(MOST_CELLS)})


def _cells(column: Array) -> list[Value]:
    flat: list[Any] = column.reshape(-1).tolist()  # numbers, or text
    if column.dtype.kind in "OUS":
        return [as_category(_text(cell)) or None for cell in flat]
    return [MISSING if cell != cell else float(cell) for cell in flat]


def _text(cell: object) -> str:
    return cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)
