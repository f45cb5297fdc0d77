"""The figures of one served version: plain numbers that the loop adds to."""

from collections.abc import Callable, Sequence
from typing import Protocol

from ferryman.server.data.ask import Stages
from ferryman.server.data.signals.histogram import BYTES, ROWS, SECONDS, Histogram
from ferryman.server.data.signals.outcomes import FAILED, OTHER, OUTCOMES, PROTOCOLS


class Depth(Protocol):
    """Be what knows how many requests of a version wait and run: its lane."""

    waiting: int
    in_flight: int


def _no_workers() -> Sequence[int]:
    return ()


class ServedMetrics:
    """Count what one version does; for the loop's thread only.

    Set `depth` and `worker_pids` when they are there; `golden_ok` is None until the golden samples were asked.
    """

    __slots__ = (
        "batch_rows", "depth", "digest", "finish_s", "golden_ok", "infer_s", "name", "nonfinite_answers", "prepare_s",
        "queue_s", "request_bytes", "request_s", "requests", "response_bytes", "rows", "version", "weighted_s",
        "worker_pids",
    )  # fmt: skip

    def __init__(self, name: str, version: str, digest: str) -> None:
        self.name = name
        self.version = version
        self.digest = digest
        self.depth: Depth | None = None
        self.worker_pids: Callable[[], Sequence[int]] = _no_workers
        self.golden_ok: bool | None = None
        self.nonfinite_answers = 0
        self.rows = 0
        self.requests: dict[tuple[str, str], int] = {("ok", "http"): 0}  # so that a rate has a start
        self.request_s = Histogram(SECONDS)
        self.queue_s = Histogram(SECONDS)
        self.prepare_s = Histogram(SECONDS)
        self.infer_s = Histogram(SECONDS)
        self.finish_s = Histogram(SECONDS)
        self.batch_rows = Histogram(ROWS)
        self.request_bytes = Histogram(BYTES)
        self.response_bytes = Histogram(BYTES)
        self.weighted_s = [0.0, 0.0, 0.0, 0.0]  # queue, prepare, infer, finish, each times the asks that shared it

    def request(self, outcome: str, seconds: float, protocol: str) -> None:
        """Count one request that ended, and its time from the headers to the answer."""
        try:
            self.requests[outcome, protocol] += 1
        except KeyError:
            key = (outcome if outcome in OUTCOMES else FAILED, protocol if protocol in PROTOCOLS else OTHER)
            self.requests[key] = self.requests.get(key, 0) + 1
        self.request_s.observe(seconds)

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
