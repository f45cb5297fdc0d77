"""The figures of one served version: plain numbers that the loop adds to."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ferryman.server.data.ask import Stages
from ferryman.server.data.signals.histogram import BYTES, ROWS, SECONDS, Histogram
from ferryman.server.data.signals.outcomes import FAILED, OTHER, OUTCOMES, PROTOCOLS
from ferryman.server.data.signals.processes import CpuSpent

# A rate begins at the first value that is seen: a series that began with 1 would hide its first request.
_STARTS = [(outcome, protocol) for outcome in ("ok", FAILED) for protocol in ("http", "grpc", "websocket")]


class Depth(Protocol):
    """Be what knows how many requests of a version wait and run: its lane."""

    waiting: int
    in_flight: int


@dataclass(slots=True, eq=False)
class Live:
    """Be the content that a version has now, and who answers for it: `worker_pids` gives none while all are lost.

    `golden_ok` is None until the golden samples were asked.
    """

    digest: str
    golden_ok: bool | None = None
    depth: Depth | None = None
    worker_pids: Callable[[], Sequence[int]] = tuple


class ServedMetrics:
    """Count what one version does; for the loop's thread only.

    It counts on when the version is loaded again, with other content, too. `live` is None while nothing is loaded.
    Answers that took longer than `limit_s` are `slow`.
    """

    __slots__ = (
        "batch_rows", "cpu", "finish_s", "infer_s", "limit_s", "live", "name", "nonfinite_answers", "prepare_s",
        "queue_s", "request_bytes", "request_s", "requests", "response_bytes", "rows", "slow", "version", "weighted_s",
    )  # fmt: skip

    def __init__(self, name: str, version: str) -> None:
        self.name = name
        self.version = version
        self.live: Live | None = None
        self.nonfinite_answers = 0
        self.rows = 0
        self.cpu = CpuSpent()
        self.limit_s = math.inf
        self.slow = 0
        self.requests = dict.fromkeys(_STARTS, 0)
        self.request_s = Histogram(SECONDS)
        self.queue_s = Histogram(SECONDS)
        self.prepare_s = Histogram(SECONDS)
        self.infer_s = Histogram(SECONDS)
        self.finish_s = Histogram(SECONDS)
        self.batch_rows = Histogram(ROWS)
        self.request_bytes = Histogram(BYTES)
        self.response_bytes = Histogram(BYTES)
        self.weighted_s = [0.0, 0.0, 0.0, 0.0]  # queue, prepare, infer, finish, each times the asks that shared it

    @property
    def cpu_s(self) -> float:
        """Give the CPU seconds that the version's workers took so far, their start included."""
        return self.cpu.look(self.live.worker_pids if self.live is not None else tuple)

    @property
    def is_blank(self) -> bool:
        """Tell whether nothing was ever counted."""
        return not (any(self.requests.values()) or self.rows or self.nonfinite_answers)

    def leave(self, live: Live) -> None:
        """Know that this content answers no more, where no other has taken its place."""
        if self.live is live:
            self.live = None

    def request(self, outcome: str, seconds: float, protocol: str) -> None:
        """Count one request that ended, and its time from the headers to the answer."""
        try:
            self.requests[outcome, protocol] += 1
        except KeyError:
            key = (outcome if outcome in OUTCOMES else FAILED, protocol if protocol in PROTOCOLS else OTHER)
            self.requests[key] = self.requests.get(key, 0) + 1
        self.request_s.observe(seconds)
        if seconds > self.limit_s and outcome == "ok":
            self.slow += 1

    def job(self, stages: Stages) -> None:
        """Count one call of the engine and what it took; once a call, not once a request that shared it."""
        asks = stages.asks
        self.queue_s.observe(stages.queue_s)
        self.prepare_s.observe(stages.prepare_s)
        self.infer_s.observe(stages.infer_s)
        self.finish_s.observe(stages.finish_s)
        self.batch_rows.observe(stages.rows)
        self.rows += stages.rows
        weighted_s = self.weighted_s
        weighted_s[0] += asks * stages.queue_s
        weighted_s[1] += asks * stages.prepare_s
        weighted_s[2] += asks * stages.infer_s
        weighted_s[3] += asks * stages.finish_s

    def sizes(self, request_bytes: int, response_bytes: int) -> None:
        """Count the bytes of one request's body and of its answer's."""
        self.request_bytes.observe(request_bytes)
        self.response_bytes.observe(response_bytes)

    def nonfinite(self) -> None:
        """Count one answer that held NaN or infinity."""
        self.nonfinite_answers += 1
