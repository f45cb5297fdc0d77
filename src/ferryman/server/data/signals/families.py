"""The metrics of served versions, each made from the numbers that the loop counted."""

import math
from collections.abc import Callable, Sequence

from ferryman.server.data.signals.exposition import Family, Kind
from ferryman.server.data.signals.histogram import Histogram
from ferryman.server.data.signals.processes import resident_bytes
from ferryman.server.data.signals.served import ServedMetrics

_VERSION = ("model", "version")
_HISTOGRAMS: tuple[tuple[str, Callable[[ServedMetrics], Histogram], str], ...] = (
    ("ferryman_request_seconds", lambda one: one.request_s, "Time from a request's headers to its answer."),
    ("ferryman_queue_seconds", lambda one: one.queue_s, "Time that a call's oldest request waited for the engine."),
    (
        "ferryman_prepare_seconds",
        lambda one: one.prepare_s,
        "Time to decode and preprocess for one call of the engine.",
    ),
    ("ferryman_infer_seconds", lambda one: one.infer_s, "Time of one call of the engine."),
    ("ferryman_finish_seconds", lambda one: one.finish_s, "Time to make answers of one call's outputs."),
    ("ferryman_batch_rows", lambda one: one.batch_rows, "Rows in one call of the engine."),
    ("ferryman_request_bytes", lambda one: one.request_bytes, "Bytes of a request; over HTTP with its headers."),
    ("ferryman_response_bytes", lambda one: one.response_bytes, "Bytes of an answer's body."),
)


def of_versions(served: Sequence[ServedMetrics]) -> list[Family]:
    """Make every metric that has a version."""
    requests = Family(
        "ferryman_requests_total", "counter", "Requests by how they ended.", (*_VERSION, "outcome", "protocol")
    )
    requests.values = [((one.name, one.version, *key), n) for one in served for key, n in one.requests.items()]
    nonfinite = _family("ferryman_nonfinite_answers_total", "counter", "Answers that held NaN or infinity.")
    nonfinite.values = [((one.name, one.version), one.nonfinite_answers) for one in served]
    slow = _family("ferryman_slow_total", "counter", "Answers that took longer than the contract's p99_ms.")
    slow.values = [((one.name, one.version), one.slow) for one in served if one.limit_s < math.inf]
    cpu = _family("ferryman_model_cpu_seconds_total", "counter", "CPU time of a version's workers.")
    cpu.values = [((one.name, one.version), one.cpu_s) for one in served]
    return [requests, nonfinite, slow, cpu, *(_histogram(*named, served) for named in _HISTOGRAMS), *_gauges(served)]


def _gauges(served: Sequence[ServedMetrics]) -> list[Family]:
    loaded = Family(
        "ferryman_model_loaded", "gauge", "1 where a worker holds the version, 0 while all are lost.",
        (*_VERSION, "digest"),
    )  # fmt: skip
    golden = _family("ferryman_golden_ok", "gauge", "1 while a worker answers golden samples right, else 0.")
    waiting = _family("ferryman_waiting", "gauge", "Requests that wait for the engine.")
    in_flight = _family("ferryman_in_flight", "gauge", "Requests that an engine works on.")
    rss = Family(
        "ferryman_worker_rss_bytes", "gauge", "Memory of a worker, what it shares with others included.",
        (*_VERSION, "worker"),
    )  # fmt: skip
    for one in served:
        key, live = (one.name, one.version), one.live
        if live is None:
            continue
        pids = live.worker_pids()
        loaded.values.append(((*key, live.digest), int(bool(pids))))
        if live.golden_ok is not None:
            golden.values.append((key, int(live.golden_ok and bool(pids))))
        if live.depth is not None:
            waiting.values.append((key, live.depth.waiting))
            in_flight.values.append((key, live.depth.in_flight))
        for place, pid in enumerate(pids):  # not the pid itself: each restart would make a new series
            rss.values.append(((*key, str(place)), resident_bytes(pid)))
    return [loaded, golden, waiting, in_flight, rss]


def _histogram(
    name: str, read: Callable[[ServedMetrics], Histogram], help: str, served: Sequence[ServedMetrics]
) -> Family:
    family = _family(name, "histogram", help)
    for one in served:
        family.values.append(((one.name, one.version), read(one)))
    return family


def _family(name: str, kind: Kind, help: str) -> Family:
    return Family(name, kind, help, _VERSION)
