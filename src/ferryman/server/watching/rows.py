"""Rows of signals that wait to be compared together."""

from ferryman.core.record import Columns, Value


class Rows:
    """Gather columns; a signal that some rows lack is None there. `at_s` is when the last of them came, Unix time."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Value]] = {}
        self.at_s = 0.0
        self._count = 0

    def add(self, columns: Columns, at_s: float) -> int:
        """Take the rows of one call; gives how many."""
        rows = len(next(iter(columns.values()))) if columns else 0
        for name in columns.keys() - self.columns.keys():
            self.columns[name] = [None] * self._count
        for name, values in self.columns.items():
            values.extend(columns.get(name, [None] * rows))
        self._count += rows
        self.at_s = max(self.at_s, at_s)
        return rows
