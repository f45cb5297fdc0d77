"""Checks under load: latency at the promised rate, memory meanwhile, and being well after too much of it."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite

import numpy as np

from ferryman.client.load.loops import Address, Load, Tally, closed_loop, open_loop
from ferryman.container import proc
from ferryman.container.container import Container
from ferryman.container.engine import EngineFailed
from ferryman.container.outcome import Fails, Figure, Finding, NotChecked, with_busy
from ferryman.container.visit import Visit

_SHORTEST_S, _LONGEST_S, _WANTED = 3.0, 20.0, 150
_CALM_RPS = 20.0
_FLOOD_S, _FLOOD_CALLERS = 3.0, 64
_WELL_S = 10.0
_SAMPLE_S = 0.05
_MOST_LATE = 0.05
_UNITS = {"B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def latency(visit: Visit) -> Finding:
    """Send Poisson arrivals at the contract's rate; each latency counts from its scheduled arrival."""
    promises = visit.promises
    rate = promises.at_rps or _CALM_RPS
    longest_s = _LONGEST_S if promises.p99_ms is not None else _SHORTEST_S
    seconds = float(np.clip(_WANTED / rate, _SHORTEST_S, longest_s))
    load = _load(visit, connections=64)
    with _watched(visit):
        tally = asyncio.run(open_loop(load, rate_rps=rate, duration_s=seconds))
    p50, p99 = (tally.latency.percentile(share) * 1e3 for share in (0.5, 0.99))
    figures: dict[str, Figure] = {**_counts(tally), "rate_rps": rate, "p50_ms": _finite(p50), "p99_ms": _finite(p99)}
    told = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms at {rate:g} requests/s ({tally.sent} sent)"
    if tally.lost or tally.failed:
        raise Fails(f"{tally.lost + tally.failed} of {tally.sent} requests got no answer, or an error",
                    hint="what does its log say?", figures=figures)  # fmt: skip
    if promises.p99_ms is None:
        hint = "--p99-ms and --rps promise one; [contract] p99_ms, at_rps in a bundle"
        raise NotChecked(f"{told}; nobody promised a latency", hint=hint, figures=figures)
    figures["promised_ms"] = promises.p99_ms
    # Where half of all are too slow, a few that were sent late don't explain it.
    too_late = tally.late > (_MOST_LATE if p50 <= promises.p99_ms else 0.5) * tally.sent
    if p99 > promises.p99_ms and too_late:
        raise NotChecked(f"{told}, but {tally.late} were sent late: this machine is too busy to tell", figures=figures)
    if p99 > promises.p99_ms:
        raise Fails(f"{told}: over {promises.p99_ms:g} ms", hint=with_busy("ferryman tune, or more --cpus"),
                    figures=figures)  # fmt: skip
    return Finding(f"{told}, of at most {promises.p99_ms:g} ms", figures)


def overload(visit: Visit) -> Finding:
    """Let many callers ask without a pause; afterwards it must be ready and right again."""
    load = _load(visit, connections=_FLOOD_CALLERS)
    container = visit.live
    with _watched(visit):
        tally = asyncio.run(closed_loop(load, duration_s=_FLOOD_S))
    started_s = time.monotonic()
    reason = visit.is_well(within_s=_WELL_S)
    figures: dict[str, Figure] = {**_counts(tally), "well_after_s": round(time.monotonic() - started_s, 2)}
    told = f"{tally.answered} answered, {tally.refused} refused, {tally.failed} failed, {tally.lost} lost"
    if reason:
        raise Fails(f"{told}; {_WELL_S:g} s later: {reason}", hint="bound its queue: refuse with 429", figures=figures)
    if kills := proc.memory_kills(container.pid):
        raise Fails(f"{told}; the kernel ended {kills} of its processes for memory", hint="a smaller queue or batch",
                    figures=figures)  # fmt: skip
    if tally.failed or tally.lost:
        return Finding(f"{told}; well again", figures, "refuse what is too much with 429, at once", is_advice=True)
    return Finding(f"{told}; well again after {figures['well_after_s']} s", figures)


def memory(visit: Visit) -> Finding:
    """Compare the largest process with the contract, and the container's most with its limit; after the load checks."""
    if not visit.peaks:
        with _watched(visit):
            asyncio.run(open_loop(_load(visit, connections=16), rate_rps=_CALM_RPS, duration_s=1.0))
    if not visit.peaks:
        raise NotChecked("neither /proc nor the engine tells the container's memory")
    most, process = visit.peaks.get("container_mb"), visit.peaks.get("process_mb")
    figures: dict[str, Figure] = {name: round(value, 1) for name, value in visit.peaks.items()}
    figures["limit_mb"] = visit.limits.memory_mb
    words = (("the container at most", most), ("its largest process", process))
    told = ", ".join(f"{name} {value:.0f} MB" for name, value in words if value is not None)
    if not visit.posture.is_limited:
        raise Fails(f"it is not ready within {visit.limits.memory_mb} MB ({visit.limits.memory_from}); {told}",
                    hint="--memory-mb, or max_rss_mb in [contract], gives it more", figures=figures)  # fmt: skip
    limit = visit.promises.max_rss_mb
    if limit is None:
        raise NotChecked(f"{told}, of {visit.limits.memory_mb} MB allowed; nobody promised a process's",
                         hint="--max-rss-mb, or max_rss_mb in [contract]", figures=figures)  # fmt: skip
    figures["promised_mb"] = limit
    if process is None:
        raise NotChecked(f"{told}; a process's can't be read: the engine runs on another machine", figures=figures)
    if process > limit:
        raise Fails(f"{told}: over {limit:g} MB", hint="a smaller batch, fewer threads, INT8", figures=figures)
    return Finding(f"{told}, of at most {limit:g} MB; {visit.limits.memory_mb} MB allowed", figures)


def _load(visit: Visit, *, connections: int) -> Load:
    requests = visit.questions.requests(visit.live.url)
    return Load(Address("127.0.0.1", visit.live.port), requests, connections=connections)


def _counts(tally: Tally) -> dict[str, Figure]:
    return {"sent": tally.sent, "answered": tally.answered, "refused": tally.refused, "failed": tally.failed,
            "lost": tally.lost}  # fmt: skip


def _finite(value: float) -> float | None:
    return round(value, 2) if isfinite(value) else None


@contextmanager
def _watched(visit: Visit) -> Iterator[None]:
    """Keep the most memory that the container held during a block."""
    container, done = visit.live, threading.Event()
    most: dict[str, float] = visit.peaks

    def look() -> None:
        while True:
            in_use = _in_use(container)
            if in_use is not None:
                most["container_mb"] = max(most.get("container_mb", 0.0), in_use / 1e6)
            if done.wait(_SAMPLE_S):
                return

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join(timeout=10)
        if seen := proc.processes(container.pid):
            most["process_mb"] = max(most.get("process_mb", 0.0), max(one.peak_kb for one in seen) * 1024 / 1e6)


def _in_use(container: Container) -> float | None:
    """Ask the control group, which costs nothing, else the engine."""
    in_use = proc.memory_in_use(container.pid)
    if in_use is not None:
        return float(in_use)
    try:
        told = container.engine.call("stats", "--no-stream", "--format", "{{json .}}", container.name)
        used = str(json.loads(told).get("MemUsage", "")).partition("/")[0].strip()
    except (EngineFailed, ValueError, AttributeError):
        return None
    digits = used.rstrip("kKMGiB")
    unit = used[len(digits) :]
    return float(digits) * _UNITS[unit] if digits and unit in _UNITS else None
