"""How alike neighbours are: the factor by which the variance of a mean is more than that of independent rows."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MEMORY = (4096, 512)  # differences that are remembered, at the finest resolution and at the others
_ENOUGH = 12
_ROWS = 8192
_DOUBT = 1.5  # a factor is believed down to this many of its own standard deviations
_TINY = 1e-9


class Likeness:
    """Learn, for C components, the ratio of the long-run variance to that of one row (the correlation time in rows).

    Frames of a camera resemble each other; ten of them say little more than one. Half the squared difference of
    neighbouring blocks of b rows, times b, tends to the long-run variance as b grows (batch means: Fishman 1978; by
    differences, so that a slow or single change of the level hardly counts: von Neumann 1941). The finest resolution
    also tells the factor of a process of first order, (1 + r) / (1 - r), long before the others can.
    """

    def __init__(self, components: int, resolutions: int = 20) -> None:
        self.squares = np.zeros((resolutions, components))
        self.seen = np.zeros((resolutions, components))
        self.rows = np.zeros(components)
        self.first = np.zeros(components)
        self.second = np.zeros(components)

    def add_rows(self, rows: Floats) -> None:
        """Learn the variance of one row from rows [N, C], NaN where there is none."""
        known = ~np.isnan(rows)
        values = np.where(known, rows, 0.0)
        counts = known.sum(axis=0)
        self.rows = np.minimum(self.rows + counts, _ROWS)
        weight = np.where(counts > 0, counts / np.maximum(self.rows, 1), 0.0)
        divisor = np.maximum(counts, 1)
        self.first += np.minimum(weight, 1.0) * (values.sum(axis=0) / divisor - self.first)
        self.second += np.minimum(weight, 1.0) * ((values**2).sum(axis=0) / divisor - self.second)

    def add_pair(self, resolution: int, counts: Floats, sums: Floats) -> None:
        """Learn from two neighbouring blocks: counts and sums, [2, C], the earlier one first."""
        both = (counts > 0).all(axis=0)
        if not both.any():
            return
        safe = np.maximum(counts, 1.0)
        difference = sums[1] / safe[1] - sums[0] / safe[0]
        square = difference**2 / (1 / safe[0] + 1 / safe[1])
        seen = self.seen[resolution]
        seen += both
        memory = _MEMORY[min(resolution, 1)]
        weight = np.where(both, 1 / np.clip(seen, 1, memory), 0.0)
        self.squares[resolution] += weight * (square - self.squares[resolution])

    def factor(self) -> Floats:
        """Give the factor of each component, [C], at least 1."""
        variance = self.second - self.first**2
        known = variance > _TINY
        safe = np.where(known, variance, 1.0)
        ratio = self.squares / safe
        memory = np.minimum(self.seen, _MEMORY[1])
        doubt = 1 + _DOUBT * np.sqrt(3 / np.maximum(memory, 1))
        believed = np.where(self.seen >= _ENOUGH, ratio / doubt, 1.0)
        near = np.clip(1 - ratio[0], 0.0, 0.999)  # the correlation of a row with the one before, where blocks are rows
        first_order = np.where(self.seen[0] >= _ENOUGH, (1 + near) / (1 - near), 1.0)
        return np.asarray(np.where(known, np.maximum(np.maximum(believed.max(axis=0), first_order), 1.0), 1.0))
