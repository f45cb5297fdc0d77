"""What queueing theory says of one server with a constant service time and Poisson arrivals."""

import heapq
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def md1_quantile(load: float, quantile: float) -> float:
    """Give the quantile of the time in an M/D/1 system, in service times; `load` is below 1."""
    low, high = 0.0, 1.0
    while _md1_waits_at_most(load, high) < quantile:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _md1_waits_at_most(load, middle) < quantile else (low, middle)
    return 1 + high


def _md1_waits_at_most(load: float, waited: float) -> float:
    terms = []
    for place in range(math.floor(waited) + 1):
        power = load * (waited - place)
        terms.append((-1) ** place * math.exp(power) * power**place / math.factorial(place))
    return (1 - load) * math.fsum(terms)


def arrivals(rate: float, *, count: int, seed: int) -> NDArray[np.float64]:
    """Draw when requests come, in seconds from the start; the same seed gives the same pattern at every rate."""
    gaps: NDArray[np.float64] = np.random.default_rng(seed).exponential(1.0, count)
    return np.cumsum(gaps) / rate


def in_turn(times: NDArray[np.float64], service_s: float, *, servers: int = 1) -> list[float]:
    """Give how long each of these arrivals would take where each is served in turn for the same time."""
    free = [0.0] * servers
    took = []
    for time_s in times.tolist():
        start = max(time_s, heapq.heappop(free))
        heapq.heappush(free, start + service_s)
        took.append(start + service_s - time_s)
    return took


def percentile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that at least this share of them doesn't exceed; nan of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
