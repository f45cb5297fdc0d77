"""Count values into buckets: one search and two additions, for what happens at every request."""

from bisect import bisect_left
from collections.abc import Sequence

SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BYTES = tuple(float(4**power) for power in range(4, 14))  # 256 B to 64 MiB
ROWS = tuple(float(2**power) for power in range(9))


class Histogram:
    """Hold how many values fell under each bound, and their sum; for one thread, the loop's."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def count(self) -> int:
        """Give how many values there were."""
        return sum(self.counts)
