"""Figures of now for who looks on: counters since the start, of which two make a rate."""

import math
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ferryman.server.control.watcher import Watcher
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.signals.processes import resident_bytes
from ferryman.server.data.signals.served import ServedMetrics

_MOST_SCORES = 20


def read_live(
    served: Sequence[ServedMetrics], plane: Dataplane, watcher: Watcher, cpu_s: float
) -> dict[str, Any]:  # JSON
    """Give, as JSON values, what every loaded version does and what the watch said last; for the loop's thread."""
    readiness = plane.readiness()
    known = [one for one in served if (one.name, one.version) in readiness]
    return {
        "at_s": time.time(),
        "ready": not plane.why_not_ready(),
        "reason": plane.why_not_ready() or "",
        "cpu_s": cpu_s,
        "front_bytes": resident_bytes(os.getpid()),
        "versions": [
            _version(one, readiness[one.name, one.version], is_active=plane.active(one.name) == one.version)
            for one in sorted(known, key=lambda one: (one.name, one.version))
        ],
        "watch": _watch(watcher),
    }


def _version(one: ServedMetrics, ready: float, *, is_active: bool) -> dict[str, Any]:  # JSON
    outcomes = Counter[str]()
    for (outcome, protocol), count in tuple(one.requests.items()):
        if protocol != "probe":
            outcomes[outcome] += count
    live = one.live
    depth = live.depth if live is not None else None
    pids = live.worker_pids() if live is not None else ()
    return {
        "model": one.name,
        "version": one.version,
        "active": is_active,
        "ready": bool(ready),
        "golden_ok": live.golden_ok if live is not None else None,
        "outcomes": dict(outcomes),
        "cpu_s": one.cpu_s,
        "latency": {"bounds_s": list(one.request_s.bounds), "counts": list(one.request_s.counts)},
        "promised_p99_s": one.limit_s if math.isfinite(one.limit_s) else None,
        "waiting": depth.waiting if depth is not None else 0,
        "in_flight": depth.in_flight if depth is not None else 0,
        "worker_bytes": [resident_bytes(pid) for pid in pids],
    }


def _watch(watcher: Watcher) -> dict[str, Any]:  # JSON
    status: Mapping[str, Any] = watcher.status
    return {
        "watching": watcher.is_watching,
        "records": watcher.records(),
        "lost": {why: count for (why,), count in watcher.lost().items() if count},
        "restarts": watcher.restarts(),
        "share": watcher.share(),
        "drift": [
            {**brief, "scores": dict(list(brief["scores"].items())[:_MOST_SCORES])} for brief in status.get("drift", ())
        ],
        "alerts": list(status.get("alerts", ())),
        "machine": status.get("machine", {}),
    }
