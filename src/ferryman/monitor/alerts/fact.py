"""What is measured of a served version, or of the machine: what rules are held against."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "golden", "ready", "drift", "performance", "memory", "disk", "temperature", "slowed", "quota", "records_lost",
    "actions",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Traffic:
    """Count what a version's requests came to since its server started; counts only grow until it starts again.

    `failed` are those that were the server's fault (`FAULTS`), `slow` those among `ok` that took longer than
    `contract.p99_ms`. What callers got wrong, and the server's own probes, are left out.
    """

    model: str
    version: str
    ok: int
    failed: int = 0
    slow: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """Hold one figure as it is now; NaN where it is not known, which changes no alert.

    By kind: `golden`, `ready`, `drift` and `actions` (1: a person must look) are 1 or 0; `performance` is the least
    drop of the metric that its interval leaves possible; `memory` the bytes of the largest worker; `disk` the share
    that is free; `temperature` degrees Celsius; `slowed` 1 where heat or the power supply slow processors or a GPU
    down; `quota` the share of the time in which a container's CPU limit was used up; `records_lost` a count since the
    start. `detail` says more, in words, for those who are told.
    """

    kind: Kind
    value: float
    model: str = ""
    version: str = ""
    detail: str = ""


Fact = Traffic | Reading

FAULTS = ("deadline", "failed", "not_ready", "overloaded")
"""Outcomes (the metrics' words) that spend the error budget."""
