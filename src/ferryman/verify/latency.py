"""Latency: runs taken turn by turn so that the machine's noise cancels, and open-loop Poisson arrivals."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ferryman.core.progress import Progress, silent
from ferryman.core.proof import Latency
from ferryman.core.runtime import Session
from ferryman.core.signature import Tensors

Call = Callable[[int], object]
"""Answer the i-th request; the caller rotates its inputs by i.

Where it gives a float, that is the seconds that the engine took: a call across processes costs more than its engine.
"""

WARM_UP = 3
MIN_ROUNDS = 15
MAX_ROUNDS = 300
_LONGEST_IDLE_S = 1.0


def call_in_turn(session: Session, inputs: Sequence[Tensors]) -> Call:
    """Give the call that asks a session these inputs one after the other, and tells its engine's own time if it can."""

    def call(index: int) -> float | None:
        session.infer(inputs[index % len(inputs)])
        return getattr(session, "inference_s", None)

    return call


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
    rounds = int(np.clip(budget_s / max(2 * per_round, 1e-6), MIN_ROUNDS, MAX_ROUNDS))
    times: dict[str, list[float]] = {name: [] for name in names}
    rng = np.random.default_rng(0)
    for index in range(rounds):
        # Shuffled, not rotated: behind the same neighbour each time, the source would always find its caches warm.
        for place in rng.permutation(len(names)):
            runs[names[place]](index)  # untimed: it pays for the threads that the one before left spinning
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
    engine_s = call(index)
    return engine_s if isinstance(engine_s, float) else time.perf_counter() - start


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


def poisson_p99(call: Call, *, rps: float, seconds: float, seed: int, max_s: float | None = None) -> tuple[float, int]:
    """Answer requests that arrive by themselves (open loop), and give the p99 from arrival to answer in ms.

    A request that has to wait for the one before it pays for the wait, as a user would: no coordinated omission
    (G. Tene, "How NOT to measure latency"). Returns the p99 and the number of requests answered. The p99 is infinite
    where requests are still late after `max_s` (3 x `seconds` by default): they come faster than they are answered.
    """
    limit_s = 3 * seconds if max_s is None else max_s
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rps, size=_request_count(rps, seconds)))
    taken: list[float] = []
    began = start = time.perf_counter()
    for index, arrival in enumerate(arrivals):
        early = start + arrival - time.perf_counter()
        if time.perf_counter() - began > limit_s and taken:
            return (float("inf") if early < 0 else _p99_ms(taken)), len(taken)
        if early > 0:
            time.sleep(min(early, _LONGEST_IDLE_S))
            # Nobody waits while nothing runs, so that skipping the rest of a long pause changes no request's time.
            start -= max(early - _LONGEST_IDLE_S, 0.0)
        call(index)
        taken.append(time.perf_counter() - start - arrival)
    return _p99_ms(taken), len(taken)


def _request_count(rps: float, seconds: float) -> int:
    """Give `seconds` worth of requests, but 20 where that takes no more than twice as long, and never under 5."""
    return max(int(rps * seconds), min(20, int(2 * rps * seconds)), 5)


def _p99_ms(taken: list[float]) -> float:
    return float(np.percentile(taken, 99) * 1e3)
