"""Count what both versions do during one step of a rollout."""

from collections import Counter
from dataclasses import dataclass, field
from math import isfinite, log2

import numpy as np

from ferryman.core.errors import FerrymanError, Forbidden, NotFound, Overloaded, TooLarge, Unauthorized, UserError
from ferryman.server.data.ask import Ask, Gone, Reply

_SHORTEST_S = 1e-6
_PARTS = 16  # buckets an octave: 4 % apart
_BUCKETS = 30 * _PARTS  # up to 18 minutes
_NO_FAULT = (UserError, Overloaded, NotFound, TooLarge, Unauthorized, Forbidden)

Json = dict[str, object]


def is_fault(reply: Reply | None, error: FerrymanError | None) -> bool | None:
    """Tell whether a version failed a request; None where the request itself (or the load) was to blame."""
    if isinstance(error, _NO_FAULT):
        return None
    if isinstance(error, Gone):  # nobody knows what it would have answered; the latency counts
        return False
    return error is not None or (reply is not None and not reply.is_finite)


def is_suspect(ask: Ask, reply: Reply) -> bool:
    """Tell whether an answer is not finite though every number that was asked about is."""
    if reply.is_finite:
        return False
    numbers = (values for values in (ask.tensors or {}).values() if values.dtype.kind in "fc")
    return all(np.isfinite(values).all() for values in numbers)


@dataclass(slots=True)
class Latencies:
    """Hold a histogram of latencies, its buckets 4 % apart."""

    total: int = 0
    counts: list[int] = field(default_factory=lambda: [0] * _BUCKETS)

    def add(self, seconds: float) -> None:
        """Count one."""
        place = int(log2(seconds / _SHORTEST_S) * _PARTS) if seconds > _SHORTEST_S else 0
        self.counts[place if place < _BUCKETS else -1] += 1
        self.total += 1

    def above(self, limit_s: float) -> int:
        """Count those that are surely over a limit: of the bucket that holds it, none."""
        first = int(log2(limit_s / _SHORTEST_S) * _PARTS) + 1 if limit_s > _SHORTEST_S else 1
        return sum(self.counts[first:])

    def quantile(self, share: float) -> float:
        """Give a quantile in seconds, as the upper edge of its bucket; 0 where nothing was counted."""
        return self.beyond(share)[0]

    def beyond(self, share: float) -> tuple[float, int]:
        """Give a quantile's upper edge in seconds, and how many are over that edge."""
        seen = 0
        for place, count in enumerate(self.counts):
            seen += count
            if count and seen >= share * self.total:
                return edge_s(place), self.total - seen
        return 0.0, 0


def edge_s(place: int) -> float:
    """Give the upper edge of a bucket."""
    return float(_SHORTEST_S * 2 ** ((place + 1) / _PARTS))


@dataclass(slots=True)
class Side:
    """Count one version's requests; those that it refused as the caller's fault stand apart."""

    requests: int = 0
    errors: int = 0
    refused: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    why: Counter[str] = field(default_factory=Counter)

    def note(self, reply: Reply | None, error: FerrymanError | None, seconds: float) -> None:
        """Count one request; one that its caller gave up took at least as long as that."""
        if isinstance(error, UserError):
            self.refused += 1
            return
        failed = is_fault(reply, error)
        if failed is None:
            return
        self.requests += 1
        if failed:
            self.errors += 1
            self.why[type(error).__name__ if error is not None else "not finite"] += 1
        else:
            self.latencies.add(seconds)

    def told(self) -> Json:
        """Give the figures for people and JSON."""
        told: Json = {"requests": self.requests, "errors": self.errors}
        if self.refused:
            told["refused"] = self.refused
        if self.latencies.total:
            told["p50_ms"] = round(self.latencies.quantile(0.5) * 1000, 3)
            told["p99_ms"] = round(self.latencies.quantile(0.99) * 1000, 3)
        return {**told, "why": dict(self.why)} if self.why else told


@dataclass(slots=True)
class Comparisons:
    """Count what the shadow did: requests asked of both, failures where the active version answered, differences."""

    asked: int = 0
    errors: int = 0
    compared: int = 0
    differing: int = 0
    dropped: int = 0  # not compared, as too many waited for it
    worst: dict[str, float] = field(default_factory=dict)
    example: str = ""
    why: Counter[str] = field(default_factory=Counter)

    def told(self) -> Json:
        """Give the figures for people and JSON."""
        told: Json = {name: getattr(self, name) for name in ("asked", "errors", "compared", "differing", "dropped")}
        worst = {name: round(value, 6) if isfinite(value) else str(value) for name, value in self.worst.items()}
        return {**told, "worst": worst}


@dataclass(slots=True)
class Window:
    """Hold the figures of one step."""

    started_s: float
    active: Side = field(default_factory=Side)
    candidate: Side = field(default_factory=Side)
    shadow: Comparisons = field(default_factory=Comparisons)
    looks: int = 0
    next_look: int = 16

    @property
    def size(self) -> int:
        """Count all that the candidate was asked."""
        return self.candidate.requests + self.candidate.refused + self.shadow.asked

    def told(self) -> Json:
        """Give the figures for people and JSON."""
        told: Json = {"active": self.active.told(), "candidate": self.candidate.told()}
        return {**told, "shadow": self.shadow.told()} if self.shadow.asked else told
