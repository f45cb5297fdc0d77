"""The same figures under the names that Triton's dashboards ask for: counters of microseconds a request."""

from collections.abc import Callable, Sequence

from ferryman.server.data.signals.exposition import Family, Kind
from ferryman.server.data.signals.served import ServedMetrics

_US = 1e6
_READINGS: tuple[tuple[str, Kind, str, Callable[[ServedMetrics], float]], ...] = (
    ("request_success", "counter", "Requests answered.", lambda one: _answered(one, well=True)),
    ("request_failure", "counter", "Requests failed.", lambda one: _answered(one, well=False)),
    ("count", "counter", "Rows inferred.", lambda one: one.rows),
    ("exec_count", "counter", "Calls of the engine.", lambda one: one.infer_s.count()),
    ("request_duration_us", "counter", "Time of requests.", lambda one: int(one.request_s.total * _US)),
    ("queue_duration_us", "counter", "Time in the queue.", lambda one: int(one.weighted_s[0] * _US)),
    ("compute_input_duration_us", "counter", "Time of inputs.", lambda one: int(one.weighted_s[1] * _US)),
    ("compute_infer_duration_us", "counter", "Time of inference.", lambda one: int(one.weighted_s[2] * _US)),
    ("compute_output_duration_us", "counter", "Time of outputs.", lambda one: int(one.weighted_s[3] * _US)),
    ("pending_request_count", "gauge", "Requests that wait.", lambda one: _waiting(one)),
)


def families(served: Sequence[ServedMetrics]) -> list[Family]:
    """Make them all, with Triton's labels."""
    return [
        Family(
            f"nv_inference_{name}",
            kind,
            help,
            ("model", "version"),
            [((one.name, one.version), read(one)) for one in served],
        )
        for name, kind, help, read in _READINGS
    ]


def _answered(one: ServedMetrics, *, well: bool) -> int:
    return sum(count for (outcome, _), count in one.requests.items() if (outcome == "ok") is well)


def _waiting(one: ServedMetrics) -> int:
    return one.live.depth.waiting if one.live is not None and one.live.depth is not None else 0
