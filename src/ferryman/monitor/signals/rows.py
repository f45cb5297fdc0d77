"""Signals of whole table rows, told by the baseline of their cells."""

import numpy as np

from ferryman.core.record import Columns
from ferryman.monitor.baseline import Baseline, CategoryBaseline, NumberBaseline, numbers_of, tidy
from ferryman.monitor.signals.asked import Found

CELL = "cell."


def judge_rows(columns: Columns, baseline: Baseline) -> Found:
    """Give `row.out_of_range` and `row.new_category`: of each row the share of its numbers, or categories, that is so.

    A number is out of range below the least or above the largest of the baseline; a category is new where the baseline
    names all and not this one.
    """
    outside, new = [], []
    for name, values in columns.items():
        signal = baseline.signals.get(name) if name.startswith(CELL) else None
        if isinstance(signal, NumberBaseline):
            numbers = tidy(numbers_of(values))
            outside.append((numbers < signal.low) | (numbers > signal.high))
        elif isinstance(signal, CategoryBaseline) and signal.is_whole:
            new.append(np.asarray([isinstance(value, str) and value not in signal.shares for value in values]))
    found: Found = {}
    for name, flags in (("row.out_of_range", outside), ("row.new_category", new)):
        if flags:
            found[name] = np.mean(flags, axis=0).tolist()
    return found
