"""Rates of a server from what it counted at two times."""

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

from ferryman.monitor.alerts.fact import FAULTS

Live = Mapping[str, Any]  # JSON: /v1/monitor/live
_WINDOW_S = 10.0


class Rates:
    """Keep looks of the last 10 seconds, and make figures of the first and the last; a new server begins anew."""

    def __init__(self) -> None:
        self._looks: deque[Live] = deque()

    def add(self, live: Live) -> dict[str, Any]:  # JSON
        """Take a look, and give figures; rates are None at the first one."""
        if self._looks and (live["cpu_s"] < self._looks[-1]["cpu_s"] or not live["at_s"] - self._looks[-1]["at_s"] > 0):
            self._looks.clear()
        self._looks.append(live)
        while len(self._looks) > 2 and live["at_s"] - self._looks[1]["at_s"] >= _WINDOW_S:
            self._looks.popleft()
        return figures(self._looks[0], live)


def figures(before: Live, now: Live) -> dict[str, Any]:  # JSON
    """Give what happened between two looks, and how it stands; the same look twice has no rates."""
    passed_s = now["at_s"] - before["at_s"]
    known = {(one["model"], one["version"]): one for one in before["versions"]}
    drift = {(one["model"], one["version"]): one for one in now["watch"]["drift"]}
    return {
        "at_s": now["at_s"],
        "window_s": round(passed_s, 3),
        "ready": now["ready"],
        "reason": now["reason"],
        "cpu_cores": _rate(now["cpu_s"] - before["cpu_s"], passed_s),
        "front_bytes": now["front_bytes"],
        "versions": [
            _version(known.get((one["model"], one["version"])), one, passed_s, drift) for one in now["versions"]
        ],
        "alerts": now["watch"]["alerts"],
        "watch": {key: now["watch"][key] for key in ("watching", "records", "lost", "restarts", "share", "machine")}
        | {"records_per_s": _rate(now["watch"]["records"] - before["watch"]["records"], passed_s)},
    }


def percentile(bounds_s: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Give the time under which a share of requests stayed, evenly spread within a bucket (as Prometheus does it).

    In the last bucket, which has no end, it is the last bound; None without requests.
    """
    total = sum(counts)
    if total <= 0:
        return None
    wanted, seen = share * total, 0.0
    for place, count in enumerate(counts):
        if count and seen + count >= wanted:
            if place >= len(bounds_s):
                return bounds_s[-1]
            low = bounds_s[place - 1] if place else 0.0
            return low + (bounds_s[place] - low) * (wanted - seen) / count
        seen += count
    return bounds_s[-1]


def _version(
    before: Mapping[str, Any] | None, now: Mapping[str, Any], passed_s: float, drift: Mapping[Any, Mapping[str, Any]]
) -> dict[str, Any]:  # JSON
    outcomes, counts = Counter(now["outcomes"]), list(now["latency"]["counts"])
    if before is not None:
        outcomes.subtract(before["outcomes"])
        counts = [count - old for count, old in zip(counts, before["latency"]["counts"], strict=True)]
    cpu_s = now["cpu_s"] - (before["cpu_s"] if before is not None else 0.0)
    came, failed = outcomes.total(), sum(outcomes[fault] for fault in FAULTS)
    if min([came, *counts]) < 0:  # it began to count anew
        came, failed, counts, passed_s = 0, 0, [], 0.0
    brief = drift.get((now["model"], now["version"]), {})
    return {
        "model": now["model"],
        "version": now["version"],
        "active": now["active"],
        "ready": now["ready"],
        "golden_ok": now["golden_ok"],
        "requests_per_s": _rate(came, passed_s),
        "failed_per_s": _rate(failed, passed_s),
        "failed_share": failed / came if came and passed_s > 0 else None,
        "p50_s": percentile(now["latency"]["bounds_s"], counts, 0.5) if passed_s > 0 else None,
        "p99_s": percentile(now["latency"]["bounds_s"], counts, 0.99) if passed_s > 0 else None,
        "promised_p99_s": now["promised_p99_s"],
        "waiting": now["waiting"],
        "in_flight": now["in_flight"],
        "cpu_s_a_request": cpu_s / came if came and passed_s > 0 and cpu_s >= 0 else None,
        "memory_bytes": sum(now["worker_bytes"]),
        "drifted": brief.get("drifted"),
        "threshold": brief.get("threshold"),
        "scores": dict(list(brief.get("scores", {}).items())[:5]),
    }


def _rate(count: float, passed_s: float) -> float | None:
    return count / passed_s if passed_s > 0 and math.isfinite(count) else None
