"""Signals of whole table rows, told by the baseline of their cells."""

import numpy as np

from ferryman.core.record import Columns
from ferryman.monitor.baseline import Baseline, CategoryBaseline, NumberBaseline, numbers_of, tidy
from ferryman.monitor.signals.asked import Found

CELL = "cell."


class RowJudge:
    """Tell, by a baseline, which share of a row's numbers is out of range, and which of its categories is new.

    A number is out of range below the least or above the largest of the baseline; a category is new where the baseline
    names all and not this one.
    """

    def __init__(self, baseline: Baseline) -> None:
        cells = {name: signal for name, signal in baseline.signals.items() if name.startswith(CELL)}
        self._numbers = {name: one for name, one in cells.items() if isinstance(one, NumberBaseline)}
        self._low = np.asarray([[one.low] for one in self._numbers.values()])
        self._high = np.asarray([[one.high] for one in self._numbers.values()])
        self._categories = {
            name: one.shares for name, one in cells.items() if isinstance(one, CategoryBaseline) and one.is_whole
        }

    def judge(self, columns: Columns) -> Found:
        """Give `row.out_of_range` and `row.new_category` of each row."""
        found: Found = {}
        count = max((len(values) for values in columns.values()), default=0)
        nothing = (None,) * count
        if self._numbers:
            cells = tidy(np.stack([numbers_of(columns.get(name, nothing)) for name in self._numbers]))
            found["row.out_of_range"] = ((cells < self._low) | (cells > self._high)).mean(axis=0).tolist()
        if self._categories:
            new = [0] * count
            for name, shares in self._categories.items():
                for row, value in enumerate(columns.get(name, nothing)):
                    new[row] += isinstance(value, str) and value not in shares
            found["row.new_category"] = [number / len(self._categories) for number in new]
        return found
