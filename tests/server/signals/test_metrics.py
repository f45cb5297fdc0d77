import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from ferryman.core.errors import DeadlineExceeded, FerrymanError, InputError, NotFound, Overloaded, RateLimited
from ferryman.server.data.ask import Gone, Stages
from ferryman.server.data.signals.exposition import wants_openmetrics
from ferryman.server.data.signals.metrics import Metrics
from ferryman.server.data.signals.outcomes import outcome_of
from ferryman.server.data.signals.processes import resident_bytes, tree
from ferryman.server.data.signals.served import Live, ServedMetrics

STAGES = Stages(queue_s=0.001, prepare_s=0.002, infer_s=0.004, finish_s=0.0005, asks=3, rows=6)
Found = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass
class Lane:
    waiting: int = 4
    in_flight: int = 2


def serve(metrics: Metrics, name: str, version: str, digest: str = "0123") -> ServedMetrics:
    figures = metrics.figures(name, version)
    figures.live = Live(digest, golden_ok=True, depth=Lane(), worker_pids=lambda: (os.getpid(),))
    return figures


def busy(metrics: Metrics) -> Metrics:
    served = serve(metrics, "street", "0123456789ab", "0123456789abcdef")
    served.request("ok", 0.003, "http")
    served.request("ok", 0.03, "grpc")
    served.request("invalid", 0.0001, "http")
    served.job(STAGES)
    served.sizes(600_000, 300)
    served.nonfinite()
    metrics.rejected("overloaded")
    metrics.restarted("street", "crash")
    metrics.watch(
        "ferryman_connections", "Open connections.", lambda: {("http",): 3, ("grpc",): 1}, labels=("protocol",)
    )
    metrics.watch("ferryman_tls_expiry_timestamp_seconds", "When it ends.", lambda: None)
    metrics.watch("ferryman_access_log_lost_total", "Lines lost.", lambda: 7, kind="counter")
    return metrics


def samples(families: Iterable[Metric]) -> Found:
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def read(metrics: Metrics) -> Found:
    return samples(parse_plain(metrics.render()[0].decode()))


def read_openmetrics(metrics: Metrics) -> Found:
    families = parse_openmetrics(metrics.render(openmetrics=True)[0].decode())  # type: ignore[no-untyped-call] # theirs
    return samples(families)


def value(found: Found, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


VERSION = {"model": "street", "version": "0123456789ab"}


def test_what_was_counted_is_what_prometheus_reads() -> None:
    found = read(busy(Metrics()))
    assert value(found, "ferryman_requests_total", **VERSION, outcome="ok", protocol="http") == 1
    assert value(found, "ferryman_requests_total", **VERSION, outcome="invalid", protocol="http") == 1
    assert value(found, "ferryman_request_seconds_count", **VERSION) == 3
    assert math.isclose(value(found, "ferryman_request_seconds_sum", **VERSION), 0.0331)
    assert value(found, "ferryman_infer_seconds_sum", **VERSION) == 0.004
    assert value(found, "ferryman_batch_rows_sum", **VERSION) == 6
    assert value(found, "ferryman_request_bytes_sum", **VERSION) == 600_000
    assert value(found, "ferryman_nonfinite_answers_total", **VERSION) == 1
    assert value(found, "ferryman_golden_ok", **VERSION) == 1
    assert value(found, "ferryman_waiting", **VERSION) == 4
    assert value(found, "ferryman_in_flight", **VERSION) == 2
    assert value(found, "ferryman_worker_rss_bytes", **VERSION, worker="0") > 1e6
    assert value(found, "ferryman_model_loaded", **VERSION, digest="0123456789abcdef") == 1
    assert value(found, "ferryman_rejected_total", reason="overloaded") == 1
    assert value(found, "ferryman_rejected_total", reason="slow_client") == 0
    assert value(found, "ferryman_worker_restarts_total", model="street", reason="crash") == 1
    assert value(found, "ferryman_process_cpu_seconds_total") > 0


def test_a_value_on_a_bound_is_under_it_and_one_beyond_all_is_in_infinity() -> None:
    metrics = Metrics()
    served = serve(metrics, "street", "0123456789ab")
    for seconds in (0.001, 0.0011, 1000.0):
        served.request("ok", seconds, "http")
    found = read(metrics)
    assert value(found, "ferryman_request_seconds_bucket", **VERSION, le="0.0005") == 0
    assert value(found, "ferryman_request_seconds_bucket", **VERSION, le="0.001") == 1
    assert value(found, "ferryman_request_seconds_bucket", **VERSION, le="10.0") == 2
    assert value(found, "ferryman_request_seconds_bucket", **VERSION, le="+Inf") == 3


def test_openmetrics_says_the_same_as_the_plain_format() -> None:
    metrics = busy(Metrics())
    assert metrics.render(openmetrics=True)[1].startswith("application/openmetrics-text; version=1.0.0")
    found = read_openmetrics(metrics)
    plain, moving = read(metrics), ("ferryman_process", "ferryman_worker_rss", "ferryman_model_cpu_seconds")
    assert {key: figure for key, figure in found.items() if not key[0].startswith(moving)} == {
        key: figure for key, figure in plain.items() if not key[0].startswith(moving)
    }


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, False),
        (b"*/*", False),
        (b"text/plain;version=0.0.4", False),
        (b"application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
    ],
)
def test_the_accept_header_chooses_the_format(accept: bytes | None, wanted: bool) -> None:
    assert wants_openmetrics(accept) is wanted


def test_promtool_finds_nothing_to_say() -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed")
    text = busy(Metrics()).render()[0]
    told = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (told.returncode, told.stdout + told.stderr) == (0, b"")


def test_a_version_that_leaves_shows_for_a_while_what_it_counted_and_counts_on_when_it_is_back() -> None:
    now_s = [1000.0]
    metrics = busy(Metrics(clock=lambda: now_s[0]))
    metrics.forget("street", "0123456789ab")
    found = read(metrics)
    assert value(found, "ferryman_requests_total", **VERSION, outcome="ok", protocol="http") == 1
    assert not any(name in ("ferryman_golden_ok", "ferryman_model_loaded", "ferryman_waiting") for name, _ in found)
    now_s[0] += 3600
    assert b'version="0123456789ab"' not in metrics.render()[0]
    back = serve(metrics, "street", "0123456789ab", "other content")
    back.request("ok", 0.003, "http")
    found = read(metrics)
    assert value(found, "ferryman_requests_total", **VERSION, outcome="ok", protocol="http") == 2
    assert value(found, "ferryman_request_seconds_count", **VERSION) == 4
    assert value(found, "ferryman_worker_restarts_total", model="street", reason="crash") == 1


def test_a_version_that_leaves_without_having_counted_anything_leaves_nothing() -> None:
    metrics = Metrics()
    serve(metrics, "street", "1")
    metrics.forget("street", "1")
    assert b"street" not in metrics.render()[0]


def test_a_version_whose_workers_are_lost_is_neither_loaded_nor_right() -> None:
    metrics = busy(Metrics())
    live = metrics.figures("street", "0123456789ab").live
    assert live is not None
    live.worker_pids = tuple
    found = read(metrics)
    assert value(found, "ferryman_golden_ok", **VERSION) == 0
    assert value(found, "ferryman_model_loaded", **VERSION, digest="0123456789abcdef") == 0


def test_unknown_words_make_no_new_series() -> None:
    metrics = Metrics()
    served = serve(metrics, "street", "0123456789ab")
    for word in ("made up", "made up too"):
        served.request(word, 0.1, word)
        metrics.rejected(word)
        metrics.restarted("street", word)
    assert metrics.find("nobody", "1") is None
    text = metrics.render()[0]
    assert b"made up" not in text and b"nobody" not in text
    found = read(metrics)
    assert value(found, "ferryman_requests_total", **VERSION, outcome="failed", protocol="other") == 2
    assert value(found, "ferryman_rejected_total", reason="other") == 2


def test_every_word_for_how_a_request_ended_is_a_reason_to_refuse_one() -> None:
    metrics = Metrics()
    metrics.rejected(outcome_of(NotFound("x")))
    metrics.rejected(outcome_of(InputError("x")))
    found = read(metrics)
    assert value(found, "ferryman_rejected_total", reason="not_found") == 1
    assert value(found, "ferryman_rejected_total", reason="invalid") == 1


def test_a_name_with_quotes_and_line_breaks_is_escaped() -> None:
    metrics = Metrics()
    serve(metrics, 'a"b\\c\nd', "1").request("ok", 0.1, "http")
    found = read(metrics)
    labels = {"model": 'a"b\\c\nd', "version": "1", "outcome": "ok", "protocol": "http"}
    assert value(found, "ferryman_requests_total", **labels) == 1


def test_triton_names_are_there_where_they_are_wanted_only() -> None:
    assert b"nv_inference" not in busy(Metrics()).render()[0]
    # The parser of the plain format would add a _total to counters that Triton names without one.
    found = read_openmetrics(busy(Metrics(with_triton_names=True)))
    assert value(found, "nv_inference_request_success", **VERSION) == 2
    assert value(found, "nv_inference_request_failure", **VERSION) == 1
    assert value(found, "nv_inference_count", **VERSION) == 6
    assert value(found, "nv_inference_exec_count", **VERSION) == 1
    assert value(found, "nv_inference_compute_infer_duration_us", **VERSION) == 12_000  # each of three requests had it
    assert value(found, "nv_inference_pending_request_count", **VERSION) == 4


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (InputError("x"), "invalid"),
        (NotFound("x"), "not_found"),
        (RateLimited("x"), "rate_limited"),
        (Overloaded("x"), "overloaded"),
        (DeadlineExceeded("x"), "deadline"),
        (FerrymanError("x"), "failed"),
        (Gone("x"), "cancelled"),
        (ValueError("x"), "failed"),
    ],
)
def test_an_outcome_is_the_nearest_kind_of_the_error(error: BaseException | None, outcome: str) -> None:
    assert outcome_of(error) == outcome


def test_the_tree_counts_children_that_live_and_keeps_the_time_of_those_that_ended() -> None:
    burn = "import time, sys\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\nsys.stdin.read()"
    before = tree()
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdin is not None
        child.stdout.readline()
        during = tree()
        assert during.processes == before.processes + 1
        assert during.cpu_s >= before.cpu_s + 0.25
        assert resident_bytes(child.pid) > 1e6
        child.stdin.close()
    assert tree().processes == before.processes
    assert tree().cpu_s >= during.cpu_s
    assert resident_bytes(child.pid) == 0
