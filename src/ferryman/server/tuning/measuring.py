"""How much one running server takes before its slowest answers are too slow."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

from ferryman.client.load import Address, Histogram, Load, Tally, closed_loop, open_loop
from ferryman.core.bundle import Choice, CurvePoint
from ferryman.core.errors import FerrymanError

_CONNECTIONS = 128
_TIMES_ALONE = 4
_LEAST_LIMIT_S = 0.005  # below it the system's scheduler decides, not the way to serve
_STEPS = (0.7, 0.85, 0.5, 0.3, 0.15)  # of what the server does when everybody waits for it


def ask_alone(load: Load, *, duration_s: float) -> Histogram:
    """Give the latencies of one caller who has the server to itself; raises FerrymanError where it hears nothing."""
    latency = asyncio.run(closed_loop(replace(load, connections=1), duration_s=duration_s)).latency
    if not 0 < latency.percentile(0.5) < float("inf"):
        raise FerrymanError("a caller alone got no answers", hint="the server's own log may say why")
    return latency


def usual_limit(alone: Histogram) -> tuple[float, str]:
    """Give a p99 (ms) that one caller alone would call good, and what it is made of.

    It rests on the median: a few slow answers, of a machine that does other things, too, must not lift it.
    """
    median_s = alone.percentile(0.5)
    if _TIMES_ALONE * median_s > _LEAST_LIMIT_S:
        limit_ms = round(_TIMES_ALONE * median_s * 1e3, 3)
        return limit_ms, f"{_TIMES_ALONE} x {median_s * 1e3:.3f} ms, the median of one request alone"
    return _LEAST_LIMIT_S * 1e3, f"the least; the median of one request alone is {median_s * 1e3:.3f} ms"


def best_rate(load: Load, choice: Choice, *, limit_s: float, duration_s: float) -> float:
    """Give the highest tried rate at which the p99 keeps the limit; 0 where none does."""
    callers = min(2 * choice.instances * choice.max_batch + 2, _CONNECTIONS)
    full = asyncio.run(closed_loop(replace(load, connections=callers), duration_s=duration_s * 0.25))
    best, highest_bad = 0.0, float("inf")
    left_s = duration_s * 0.75
    for share in _STEPS:
        rate = full.achieved_rps * share
        if rate <= best or rate >= highest_bad or left_s <= 0:
            continue
        tally = run_at(load, rate, duration_s=duration_s * 0.25)
        left_s -= duration_s * 0.25
        if keeps(tally, limit_s):
            best = rate
        else:
            highest_bad = rate
    return best


def keeps(tally: Tally, limit_s: float) -> bool:
    """Tell whether the p99 of all that was sent is within the limit: what got no answer is infinitely slow."""
    return tally.answered > 0 and tally.latency.percentile(0.99) <= limit_s


def run_at(load: Load, rate_rps: float, *, duration_s: float) -> Tally:
    """Send Poisson arrivals at a rate."""
    return asyncio.run(open_loop(load, rate_rps=rate_rps, duration_s=duration_s))


def point_of(tally: Tally) -> CurvePoint:
    """Give one point of the curve."""
    low_s, high_s = tally.latency.interval(0.99)
    return CurvePoint(
        rate_rps=tally.scheduled_rps,
        achieved_rps=tally.achieved_rps,
        sent=tally.sent,
        answered=tally.answered,
        refused=tally.refused,
        failed=tally.failed,
        lost=tally.lost,
        p50_ms=_ms(tally.latency.percentile(0.5)),
        p99_ms=_ms(tally.latency.percentile(0.99)),
        p99_low_ms=_ms(low_s),
        p99_high_ms=_ms(high_s),
    )


def make_load(address: Address, requests: Sequence[bytes]) -> Load:
    """Give the load for a server."""
    return Load(address, requests, connections=_CONNECTIONS)


def _ms(seconds: float) -> float | None:
    return round(seconds * 1e3, 3) if isfinite(seconds) else None
