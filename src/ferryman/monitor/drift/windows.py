"""Sums over windows of many lengths at once, in little memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

KEPT = 8
"""How many entries each resolution keeps: windows of 5 to 8 of them, so that lengths grow by a quarter at most."""
_SHORTEST = 5


@dataclass(frozen=True, slots=True)
class Spans:
    """Hold windows that end now: counts and sums [W, C], and when each began, Unix seconds [W]."""

    resolution: int
    counts: Floats
    sums: Floats
    starts: Floats


class Windows:
    """Keep sums of C components over the last blocks, at `resolutions` lengths, each twice the one before.

    An entry of resolution r is made of 2^r blocks; the last 8 of each are kept. Whenever one is complete, windows
    that end with it are looked at: 1 to 8 blocks at the finest, 5 to 8 entries at the others.
    """

    def __init__(self, components: int, resolutions: int = 20) -> None:
        self.counts = np.zeros((resolutions, KEPT, components))
        self.sums = np.zeros((resolutions, KEPT, components))
        self.starts = np.zeros((resolutions, KEPT))
        self.filled = np.zeros(resolutions, np.int64)  # entries since the start, all of them
        self._ended: list[int] = []

    def reset(self) -> None:
        """Forget all blocks."""
        self.filled[:] = 0
        for array in (self.counts, self.sums, self.starts):
            array[:] = 0.0

    def add(self, count: Floats, total: Floats, start_s: float) -> list[int]:
        """Add a block: rows that had each component [C], their sum [C]. Gives the resolutions that got an entry."""
        ended = []
        for resolution in range(len(self.filled)):
            counts, sums, starts = self.counts[resolution], self.sums[resolution], self.starts[resolution]
            counts[:-1], sums[:-1], starts[:-1] = counts[1:].copy(), sums[1:].copy(), starts[1:].copy()
            counts[-1], sums[-1], starts[-1] = count, total, start_s
            self.filled[resolution] += 1
            ended.append(resolution)
            if self.filled[resolution] % 2:
                break
            count, total, start_s = counts[-1] + counts[-2], sums[-1] + sums[-2], float(starts[-2])
        return ended

    def spans(self, ended: list[int]) -> Iterator[Spans]:
        """Give the windows that end with the newest entries of these resolutions."""
        for resolution in ended:
            filled = min(int(self.filled[resolution]), KEPT)
            shortest = 1 if resolution == 0 else _SHORTEST
            if filled < shortest:
                continue
            counts = self.counts[resolution, ::-1].cumsum(axis=0)[shortest - 1 : filled]
            sums = self.sums[resolution, ::-1].cumsum(axis=0)[shortest - 1 : filled]
            yield Spans(resolution, counts, sums, self.starts[resolution, ::-1][shortest - 1 : filled])
