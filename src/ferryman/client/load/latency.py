"""Count latencies in bounded memory: buckets one percent apart, from a microsecond to an hour."""

from math import ceil, floor, inf, log, sqrt

import numpy as np

_LOWEST_S = 1e-6
_STEP = 1.01
_BUCKETS = ceil(log(3600 / _LOWEST_S) / log(_STEP)) + 1
_Z_95 = 1.96


class Histogram:
    """Hold how often each latency was seen, to one percent; `add_lost` counts answers that never came."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)
        self.count = 0
        self.lost = 0
        self.max_s = 0.0

    def add(self, latency_s: float) -> None:
        """Count one answer."""
        place = int(log(latency_s / _LOWEST_S) / _LOG_STEP) + 1 if latency_s > _LOWEST_S else 0
        self._counts[min(place, _BUCKETS - 1)] += 1
        self.count += 1
        self.max_s = max(self.max_s, latency_s)

    def add_lost(self) -> None:
        """Count a request without an answer as slower than all that have one."""
        self.count += 1
        self.lost += 1

    def merge(self, other: "Histogram") -> None:
        """Add what another one saw."""
        self._counts += other._counts
        self.count += other.count
        self.lost += other.lost
        self.max_s = max(self.max_s, other.max_s)

    def percentile(self, share: float) -> float:
        """Give the latency (s) that this share of all requests kept; inf where too many were lost, 0 without any."""
        return self._at_rank(ceil(share * self.count))

    def interval(self, share: float) -> tuple[float, float]:
        """Give between which latencies (s) the true percentile lies with 95 % probability, given so many samples.

        The upper end is inf where there are too few samples to bound it.
        """
        spread = _Z_95 * sqrt(self.count * share * (1 - share))
        low, high = floor(self.count * share - spread), ceil(self.count * share + spread) + 1
        return self._at_rank(max(low, 1)), inf if high > self.count else self._at_rank(high)

    def _at_rank(self, rank: int) -> float:
        """Give the latency of the `rank`-th fastest request, counted from 1."""
        if not self.count:
            return 0.0
        if rank > self.count - self.lost:
            return inf
        place = int(np.searchsorted(np.cumsum(self._counts), max(rank, 1)))
        return float(min(_LOWEST_S * _STEP**place, self.max_s))


_LOG_STEP = log(_STEP)
