"""What the watch writes into its diary: versions, traffic, drift, alerts, losses: what records don't tell."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ferryman.core.bundle import Bundle
from ferryman.monitor.actions.action import Action
from ferryman.monitor.drift.change import DriftChange
from ferryman.monitor.report.diary import Diary, last_totals

_TRAFFIC_S = 60.0
_MOST_MOVED = 10

Key = tuple[str, str]


class Diarist:
    """Turn counters into what came since; without a folder nothing is written. For one thread."""

    def __init__(
        self, folder: Path | None, clock: Callable[[], float], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._diary = Diary(folder) if folder is not None else None
        self._clock, self._monotonic = clock, monotonic
        # What the watch before had told, where it was killed: requests of the time between are told now.
        self._told: dict[Key, Counter[str]] = last_totals(folder) if folder is not None else {}
        self._cpu_s: dict[Key, float] = {}
        self._lost: Counter[str] = Counter()
        self._served: dict[Key, str] = {}
        self._due_s = monotonic() + _TRAFFIC_S

    def served(self, key: Key, bundle: Bundle) -> None:
        """Write that a version is served from now on, and keep its baseline."""
        digest, p99_ms = bundle.manifest.digest, bundle.deployment.contract.p99_ms
        self._served[key] = digest
        if self._diary is not None:
            self._diary.keep_baseline(digest, bundle.baseline)
        self._add("served", key, digest=digest, p99_s=p99_ms / 1000 if p99_ms is not None else None)

    def left(self, key: Key) -> None:
        """Write that a version is served no more."""
        if self._served.pop(key, None) is not None:
            self._add("left", key)

    def drifted(self, key: Key, change: DriftChange) -> None:
        """Write that drift began or ended, and what moved most."""
        moved = [each.to_json() for each in change.signals[:_MOST_MOVED]]
        self._add("drift", key, change=change.kind, moved=moved)

    def alerted(self, alert: Mapping[str, Any]) -> None:  # JSON
        """Write that an alert fires, or is over."""
        if self._diary is not None:
            self._diary.add("alert", self._clock(), **alert)

    def acted(self, action: Action) -> None:
        """Write that an action began, or ended."""
        if self._diary is not None:
            self._diary.add("action", self._clock(), **action.to_json())

    def count(self, figures: Sequence[Mapping[str, Any]], losses: Mapping[str, int]) -> None:  # JSON: watch_figures
        """Write once a minute what all requests came to since the last time, and what this watch lost."""
        if self._monotonic() >= self._due_s:
            self._due_s = self._monotonic() + _TRAFFIC_S
            self._count(figures, losses)

    def lose(self, reasons: Mapping[str, int]) -> None:
        """Write that records were lost outside: so many more, by reason."""
        if self._diary is not None and any(reasons.values()):
            self._diary.add("lost", self._clock(), reasons={why: n for why, n in reasons.items() if n > 0})

    def close(self, figures: Sequence[Mapping[str, Any]], losses: Mapping[str, int]) -> None:  # JSON
        """Write what is left to tell: the server stops."""
        self._count(figures, losses)
        for key in list(self._served):
            self.left(key)

    def _count(self, figures: Sequence[Mapping[str, Any]], losses: Mapping[str, int]) -> None:  # JSON
        for each in figures:
            key, now = (each["model"], each["version"]), Counter({word: n for word, n in each["outcomes"].items() if n})
            came = now - self._told.get(key, Counter())
            if now.total() < self._told.get(key, Counter()).total():  # counters of another server
                came = now
            # Of a time before this watch nothing is told twice: requests were counted then, CPU time was not kept.
            before_s = self._cpu_s.get(key, each["cpu_s"] if key in self._told else 0.0)
            spent_s = each["cpu_s"] - before_s if each["cpu_s"] >= before_s else each["cpu_s"]
            self._told[key], self._cpu_s[key] = now, each["cpu_s"]
            if came:
                self._add("traffic", key, outcomes=dict(came), total=dict(now), cpu_s=round(spent_s, 3))
        lost = Counter(losses) - self._lost
        self._lost = Counter(losses)
        self.lose(lost)

    def _add(self, kind: Any, key: Key, **told: Any) -> None:  # one of diary.Kind; JSON
        if self._diary is not None:
            self._diary.add(kind, self._clock(), model=key[0], version=key[1], **told)
