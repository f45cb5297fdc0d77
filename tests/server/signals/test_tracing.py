import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ferryman.core.errors import ConfigError
from ferryman.server.data.ask import Stages
from ferryman.server.data.signals.spans import OpenSpan
from ferryman.server.data.signals.tracing import TraceSettings, Tracing

DEADLINE_S = 15.0
PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
STAGES = Stages(queue_s=0.01, prepare_s=0.02, infer_s=0.04, finish_s=0.005, asks=2, rows=5)


class Collector:
    """Be a little OTLP collector: keep every span, with its service."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()
        self.passwords: list[str | None] = []
        self.status = 200
        self.asked = 0
        self.endpoint = ""

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                raise AssertionError("not asked for")
            collector.asked += 1
            collector.passwords.append(self.headers.get("x-password"))
            if collector.status == 200:
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    collector.services |= {
                        pair.value.string_value for pair in resource.resource.attributes if pair.key == "service.name"
                    }
                    collector.spans += [span for scope in resource.scope_spans for span in scope.spans]
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    collector.endpoint = f"http://127.0.0.1:{server.server_port}/v1/traces"
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def until(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.005)


def begun(tracing: Tracing, traceparent: bytes | None = PARENT) -> OpenSpan:
    span = tracing.begin(traceparent, time.monotonic() - 0.1)
    assert span is not None
    return span


def test_a_request_its_stages_and_its_batch_arrive_at_a_collector() -> None:
    with collecting() as collector:
        tracing = Tracing(TraceSettings(collector.endpoint, ratio=1, headers={"x-password": "s3cret"}))
        tracing.start()
        first, second = begun(tracing), begun(tracing, None)
        now_s = time.monotonic()
        tracing.job([first, second], STAGES, now_s)
        tracing.end(first, "infer street", now_s, {"http.response.status_code": 200})
        tracing.end(second, "infer street", now_s, {"http.response.status_code": 500}, is_error=True)
        tracing.close()
    assert collector.services == {"ferryman"} and set(collector.passwords) == {"s3cret"}
    assert "s3cret" not in repr(TraceSettings("http://x", headers={"x-password": "s3cret"}))
    one, other = collector.named("infer street")
    assert one.trace_id.hex() == "4bf92f3577b34da6a3ce929d0e0e4736" and one.parent_span_id.hex() == "00f067aa0ba902b7"
    assert other.trace_id not in (one.trace_id, b"") and other.parent_span_id == b""
    assert (one.kind, one.status.code, other.status.code) == (Span.SPAN_KIND_SERVER, 0, 2)
    assert abs(one.end_time_unix_nano / 1e9 - time.time()) < 5
    (batch,) = collector.named("batch")
    assert [link.span_id for link in batch.links] == [one.span_id, other.span_id]
    assert {pair.key: pair.value.int_value for pair in batch.attributes} == {
        "ferryman.batch.requests": 2, "ferryman.batch.rows": 5,
    }  # fmt: skip
    for request in (one, other):
        children = [span for span in collector.spans if span.parent_span_id == request.span_id and span.name != "batch"]
        assert [span.name for span in children] == ["queue", "prepare", "infer", "finish"]
        assert all(span.trace_id == request.trace_id for span in children)
        took_s = [(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9 for span in children]
        assert took_s == pytest.approx([0.01, 0.02, 0.04, 0.005], abs=1e-6)
        assert [link.span_id for link in children[2].links] == [batch.span_id]
        assert request.start_time_unix_nano <= children[0].start_time_unix_nano
        assert children[3].end_time_unix_nano == pytest.approx(request.end_time_unix_nano, abs=2000)


def test_the_callers_choice_is_followed_and_others_are_chosen_by_the_ratio() -> None:
    never, always = Tracing(TraceSettings("http://x", ratio=0)), Tracing(TraceSettings("http://x", ratio=1))
    unsampled = PARENT[:-1] + b"0"
    assert never.begin(PARENT, 0.0) is not None and always.begin(unsampled, 0.0) is None
    assert never.begin(None, 0.0) is None and always.begin(None, 0.0) is not None
    assert never.begin(b"nonsense", 0.0) is None and always.begin(b"nonsense", 0.0) is not None
    tenth = Tracing(TraceSettings("http://x", ratio=0.1))
    traced = [span for _ in range(20_000) if (span := tenth.begin(None, 0.0))]
    assert 1700 < len(traced) < 2300
    assert len({span.context.trace_id for span in traced}) == len(traced)


def test_what_is_told_to_others_names_this_span_in_the_callers_trace() -> None:
    span = Tracing(TraceSettings("http://x")).begin(PARENT, 0.0)
    assert span is not None
    assert span.context.header().startswith(PARENT[:36]) and span.context.header() != PARENT


def test_a_collector_that_refuses_costs_spans_which_are_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with collecting() as collector:
        collector.status = 400
        tracing = Tracing(TraceSettings(collector.endpoint, ratio=1))
        tracing.start()
        for lost in (1, 2):
            tracing.end(begun(tracing), "x", time.monotonic(), {})
            until(lambda lost=lost: tracing.lost == lost)  # type: ignore[misc] # a lambda's default
        assert caplog.text.count("traces can't be sent") == 1
        collector.status = 200
        tracing.end(begun(tracing), "x", time.monotonic(), {})
        until(lambda: len(collector.spans) == 1)
        tracing.close()
        assert tracing.lost == 2


def test_a_collector_that_is_away_holds_nobody_up() -> None:
    with collecting() as gone:
        pass
    tracing = Tracing(TraceSettings(gone.endpoint, ratio=1, timeout_s=1))
    tracing.start()
    span = begun(tracing)
    for _ in range(20_000):
        tracing.end(span, "x", 0.0, {})
    assert tracing.lost >= 20_000 - 8192 - 256
    started_s = time.monotonic()
    tracing.close(timeout_s=0.1)
    assert time.monotonic() - started_s < 2


@pytest.mark.parametrize(
    "settings", [("ftp://x", 0.1), ("http://x", 1.1), ("http://x", -0.1), ("http://x", float("nan"))]
)
def test_settings_that_mean_nothing_are_refused(settings: tuple[str, float]) -> None:
    with pytest.raises(ConfigError):
        TraceSettings(*settings)
