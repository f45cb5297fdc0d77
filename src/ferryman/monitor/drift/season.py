"""What is usual at this hour: the shape of a day or a week, learnt while serving."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HOUR_S = 3600.0
PERIODS_S = {"none": 0.0, "day": 24 * HOUR_S, "week": 168 * HOUR_S}
_ENOUGH = 2  # periods before the shape is used
_MEMORY = 14.0


class Season:
    """Learn by how much each hour's level of C components is off the level of the whole period.

    Only the shape is taken out, whose mean over the period is 0: what moves all hours alike remains a change. Today
    counts from tomorrow on, and about 14 periods are remembered.
    """

    def __init__(self, components: int, period_s: float) -> None:
        self.period_s = period_s
        self.hours = round(period_s / HOUR_S)
        size = max(self.hours, 1)
        self.counts = np.zeros((size, components))
        self.sums = np.zeros((size, components))
        self.days = np.zeros(size)
        self.now_counts = np.zeros((size, components))
        self.now_sums = np.zeros((size, components))
        self.periods = 0
        self.begun = -1.0
        self._shape: Floats | None = None

    @property
    def is_learnt(self) -> bool:
        """Tell whether the shape is used."""
        return self._shape is not None

    @property
    def told(self) -> str:
        """Say how much of the period was seen, while that is too little to know its shape; else nothing."""
        if not self.hours or self.is_learnt:
            return ""
        seen = int(((self.counts + self.now_counts) > 0).any(axis=1).sum())
        return f"{seen} of {self.hours} hours seen"

    def add(self, at_s: float, count: Floats, total: Floats) -> None:
        """Learn from a block at Unix time `at_s`: rows [C] and their sums [C]."""
        if not self.hours:
            return
        period = at_s // self.period_s
        if self.begun < 0:
            self.begun = period
        if period != self.begun:  # also where a clock went back
            self._close()
            self.begun = period
        hour = int(at_s % self.period_s // HOUR_S) % self.hours
        self.now_counts[hour] += count
        self.now_sums[hour] += total

    def usual(self, at_s: float) -> Floats | None:
        """Give by how much each component is usually off at this time, [C]; None before the shape is known."""
        if self._shape is None:
            return None
        place = at_s % self.period_s / HOUR_S - 0.5
        before = int(np.floor(place))
        share = place - before
        shape = self._shape
        return np.asarray((1 - share) * shape[before % self.hours] + share * shape[(before + 1) % self.hours])

    def relearn(self) -> None:
        """Work out the shape from what is remembered."""
        if self.periods < _ENOUGH:
            return
        known = self.counts > 0
        means = np.divide(self.sums, self.counts, out=np.zeros_like(self.sums), where=known)
        level = (means * known).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        trust = np.where(self.days >= _ENOUGH, self.days / (self.days + 1), 0.0)[:, None]
        self._shape = np.where(known, (means - level) * trust, 0.0)

    def _close(self) -> None:
        present = (self.now_counts > 0).any(axis=1)
        keep = np.where(present, 1 - 1 / _MEMORY, 1.0)[:, None]
        self.counts = self.counts * keep + self.now_counts
        self.sums = self.sums * keep + self.now_sums
        self.days = np.minimum(self.days + present, _MEMORY)
        self.now_counts[:] = 0.0
        self.now_sums[:] = 0.0
        self.periods += 1
        self.relearn()
