"""What is kept of one answered request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Value = float | str | None
"""One signal of one item: a number (NaN where there is none), a category, or nothing."""

Columns = Mapping[str, Sequence[Value]]
"""Signals by name, each with one value for every item of a request (or of a batch)."""


@dataclass(frozen=True, slots=True)
class Record:
    """Say what was asked, of whom, how it ended, what it took and what it looked like; it holds no payload.

    `at_s` is Unix time at arrival; times are seconds. `asks` and `rows` shared the call of the engine. `columns` is
    empty where the request was not looked into: it failed, or was left out to stay within the cost that is allowed.
    """

    id: str
    model: str
    version: str
    at_s: float
    outcome: str  # "ok", or why there was no answer: the words of the metrics
    transport: str = "http"
    trace: str = ""
    total_s: float = 0.0
    queue_s: float = 0.0
    prepare_s: float = 0.0
    infer_s: float = 0.0
    finish_s: float = 0.0
    asks: int = 1
    rows: int = 1
    columns: Columns = field(default_factory=dict)
