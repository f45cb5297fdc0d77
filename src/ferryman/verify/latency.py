"""Latency: runs taken turn by turn so that the machine's noise cancels, and open-loop Poisson arrivals."""

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ferryman.core.progress import Progress, silent
from ferryman.core.proof import Latency

Call = Callable[[int], object]
"""Answer the i-th request; the caller rotates its inputs by i."""

WARM_UP = 3
MIN_ROUNDS = 15
MAX_ROUNDS = 300


def compare_latency(
    calls: Mapping[str, Call], source: str, *, budget_s: float, again: Call | None = None, progress: Progress = silent
) -> dict[str, Latency]:
    """Time each call in every round, in an order that is drawn anew, and the source twice.

    The second run of the source (through `again`, a session of its own, where given) tells the noise of a ratio.
    Rounds are as many as fit in `budget_s`, within MIN_ROUNDS and MAX_ROUNDS.
    """
    names = [*calls, _AGAIN]
    runs = {**calls, _AGAIN: again or calls[source]}
    per_round = sum(_seconds(runs[name], index) for index in range(WARM_UP) for name in names) / WARM_UP
    rounds = int(np.clip(budget_s / max(per_round, 1e-6), MIN_ROUNDS, MAX_ROUNDS))
    times: dict[str, list[float]] = {name: [] for name in names}
    rng = np.random.default_rng(0)
    for index in range(rounds):
        # Shuffled, not rotated: behind the same neighbour each time, the source would always find its caches warm.
        for place in rng.permutation(len(names)):
            times[names[place]].append(_seconds(runs[names[place]], index))
        progress("latency", done=index + 1, total=rounds)
    taken = {name: np.array(values) * 1e3 for name, values in times.items()}
    noise = _noise_of(taken[_AGAIN] / taken[source])
    return {name: _summary(taken[name], taken[source], noise=noise) for name in calls}


def _noise_of(ratios: NDArray[np.float64]) -> float:
    """Give how far from 1 the median of a thing's ratio to itself may lie, at 95 % (order statistics of the median)."""
    ordered = np.sort(ratios)
    reach = 0.98 * np.sqrt(len(ordered))
    low = ordered[max(int(len(ordered) / 2 - reach), 0)]
    high = ordered[min(int(np.ceil(len(ordered) / 2 + reach)), len(ordered) - 1)]
    return float(max(high - 1, 1 - low, 0))


_AGAIN = "\0the source again"


def _seconds(call: Call, index: int) -> float:
    start = time.perf_counter()
    call(index)
    return time.perf_counter() - start


def _summary(taken: NDArray[np.float64], source: NDArray[np.float64], *, noise: float) -> Latency:
    p50, p95, p99 = (float(value) for value in np.percentile(taken, [50, 95, 99]))
    return Latency(
        min_ms=float(taken.min()),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        ratio=float(np.median(taken / source)),
        noise=noise,
        rounds=len(taken),
    )


def poisson_p99(call: Call, *, rps: float, seconds: float, seed: int) -> tuple[float, int]:
    """Answer requests that arrive by themselves (open loop), and give the p99 from arrival to answer in ms.

    A request that has to wait for the one before it pays for the wait, as a user would: no coordinated omission
    (G. Tene, "How NOT to measure latency"). Returns the p99 and the number of requests.
    """
    rng = np.random.default_rng(seed)
    count = max(int(rps * seconds), 20)
    arrivals = np.cumsum(rng.exponential(1 / rps, size=count))
    taken = np.empty(count)
    start = time.perf_counter()
    for index, arrival in enumerate(arrivals):
        early = start + arrival - time.perf_counter()
        if early > 0:
            time.sleep(early)
        call(index)
        taken[index] = time.perf_counter() - start - arrival
    return float(np.percentile(taken, 99) * 1e3), count
