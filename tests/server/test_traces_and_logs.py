"""What a real server tells of its requests: spans at a collector, lines in the access log, figures for Prometheus."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from websockets.sync.client import connect

from ferryman.bundle.read import load_bundle
from ferryman.server.data.grpc import frames
from ferryman.server.data.grpc.messages import INFERENCE, InferRequest, InferResponse, message
from tests.bundle.making import plain_picture
from tests.server.grpc.raw import RawClient, headers
from tests.server.running import Running, running, wait_until
from tests.server.signals.test_tracing import Collector, collecting

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
ROWS = np.array([[1, 2, 3]], np.float32)
AFFINE = json.dumps(
    {"id": "seven", "inputs": [{"name": "values", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
).encode()
STAGES = ("queue", "prepare", "infer", "finish")


@contextmanager
def watched(bundles: dict[str, Path], **settings: Any) -> Iterator[tuple[Running, Collector]]:  # ServerSettings' fields
    """Serve with a collector that hears of every request."""
    with collecting() as collector:
        settings = {"otlp": collector.endpoint, "trace_ratio": 0.0, "access_log": "-", **settings}
        with running(list(bundles.values()), **settings) as server:
            yield server, collector


def call(server: Running, **metadata: str) -> Any:  # the messages' attributes are the .proto's
    request = InferRequest(model_name="affine", id="eight", raw_input_contents=[ROWS.tobytes()])
    request.inputs.add(name="values", datatype="FP32", shape=ROWS.shape)
    with grpc.insecure_channel(server.address) as channel:
        method = channel.unary_unary(
            f"/{INFERENCE}/ModelInfer", InferRequest.SerializeToString, InferResponse.FromString
        )
        return method(request, timeout=20, metadata=tuple(metadata.items()))


def ask(server: Running, model: str, body: bytes, kind: str = "application/json", **headers: str) -> int:
    return server.ask("POST", f"/v2/models/{model}/infer", body, {"Content-Type": kind, **headers})[0]


def lines(server: Running) -> list[dict[str, Any]]:  # JSON
    return [json.loads(line) for line in server.log().splitlines() if line.startswith('{"time"')]


def attributes(span: Span) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in span.attributes}


def spans_of(collector: Collector) -> tuple[Span, dict[str, Span]]:
    """Give the span of the only request in the trace, and those of its stages."""
    spans = [span for span in collector.spans if span.trace_id.hex() == TRACE]
    (request,) = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    return request, {span.name: span for span in spans if span.parent_span_id == request.span_id}


def assert_well_formed(request: Span, stages: dict[str, Span]) -> None:
    assert request.parent_span_id.hex() == PARENT
    assert set(stages) == {*STAGES, "batch"}
    times = [(stages[name].start_time_unix_nano, stages[name].end_time_unix_nano) for name in STAGES]
    assert all(start <= end for start, end in times)
    assert all(before[1] == pytest.approx(after[0], abs=2000) for before, after in pairwise(times))
    slack_ns = 2_000_000
    assert request.start_time_unix_nano - slack_ns <= times[0][0]
    assert times[-1][1] <= request.end_time_unix_nano + slack_ns
    assert [link.span_id for link in stages["infer"].links] == [stages["batch"].span_id]


def test_a_traced_request_arrives_at_a_collector_with_its_stages(bundles: dict[str, Path]) -> None:
    version = load_bundle(bundles["affine"]).manifest.digest[:12]
    with watched(bundles) as (server, collector):
        assert ask(server, "affine", AFFINE, traceparent=TRACEPARENT) == 200
        assert ask(server, "affine", AFFINE) == 200  # nobody traces it
        wait_until(lambda: len(collector.spans) >= 6)
        request, stages = spans_of(collector)
        assert len(collector.spans) == 6
        assert_well_formed(request, stages)
        assert request.name == "POST /v2/models/{model}/infer"
        assert attributes(request) == {
            "http.response.status_code": 200, "ferryman.model.name": "affine", "ferryman.model.version": version,
            "ferryman.request.id": "seven",
        }  # fmt: skip
        assert attributes(stages["infer"]) == {"ferryman.batch.requests": 1, "ferryman.batch.rows": 1}


def test_a_picture_shows_what_its_decoding_took(bundles: dict[str, Path]) -> None:
    with watched(bundles) as (server, collector):
        assert ask(server, "colour", plain_picture(1, 2, 3), "image/png", traceparent=TRACEPARENT) == 200
        wait_until(lambda: len(collector.spans) >= 6)
        request, stages = spans_of(collector)
        assert_well_formed(request, stages)
        assert stages["prepare"].end_time_unix_nano - stages["prepare"].start_time_unix_nano > 10_000


def test_a_call_over_grpc_is_traced_as_a_request_is(bundles: dict[str, Path]) -> None:
    with watched(bundles) as (server, collector):
        call(server, traceparent=TRACEPARENT)
        wait_until(lambda: len(collector.spans) >= 6, timeout_s=4)
        assert_well_formed(*spans_of(collector))


def test_what_failed_is_marked_and_what_was_refused_is_not(bundles: dict[str, Path]) -> None:
    with watched(bundles) as (server, collector):
        wrong = AFFINE.replace(b"FP32", b"FP64")
        assert ask(server, "affine", wrong, traceparent=TRACEPARENT) == 400
        wait_until(lambda: len(collector.spans) >= 1)
        request, _ = spans_of(collector)
        assert attributes(request)["http.response.status_code"] == 400
        assert request.status.code == 0, "the caller's mistake is no fault of the server"


def test_each_request_leaves_a_line_that_says_who_asked_what(bundles: dict[str, Path]) -> None:
    version = load_bundle(bundles["affine"]).manifest.digest[:12]
    with watched(bundles) as (server, _):
        assert ask(server, "affine", AFFINE, traceparent=TRACEPARENT) == 200
        call(server)
        assert ask(server, "nobody", b"{}") == 404
        assert server.ask("GET", "/v2/health/live?token=secret")[0] == 200
        wait_until(lambda: len(lines(server)) == 4)
        http, rpc, refused, page = lines(server)
        assert set(http) == {
            "time", "method", "path", "status", "seconds", "bytes_in", "bytes_out", "model", "version", "caller",
            "peer", "request_id", "trace_id",
        }  # fmt: skip
        shown = ("method", "path", "status", "model", "version", "request_id", "trace_id")
        path = "/v2/models/affine/infer"
        assert [http[key] for key in shown] == ["POST", path, 200, "affine", version, "seven", TRACE]
        assert (http["caller"], http["peer"]) == ("anonymous", "127.0.0.1")
        assert 0 < http["seconds"] < 20
        assert http["bytes_in"] > len(AFFINE)
        assert http["bytes_out"] > 0
        assert (rpc["method"], rpc["path"], rpc["status"]) == ("GRPC", f"/{INFERENCE}/ModelInfer", 0)
        assert (rpc["model"], rpc["version"], rpc["request_id"]) == ("affine", version, "eight")
        assert (refused["path"], refused["status"], refused["version"]) == ("/v2/models/nobody/infer", 404, "")
        assert (page["path"], page["status"], page["model"]) == ("/v2/health/live", 200, "")
        assert "secret" not in server.log()


def test_pages_of_a_model_name_it_in_their_lines(bundles: dict[str, Path]) -> None:
    with watched(bundles) as (server, _):
        assert server.ask("GET", "/v2/models/affine")[0] == 200
        assert server.ask("GET", "/v2/models/affine/ready")[0] == 200
        wait_until(lambda: len(lines(server)) == 2)
        assert [line["model"] for line in lines(server)] == ["affine", "affine"]


def test_what_is_refused_before_it_is_a_request_leaves_a_line_too_and_is_counted(bundles: dict[str, Path]) -> None:
    with watched(bundles, max_body_bytes=1000) as (server, _):
        server.raw(b"nonsense\r\n\r\n")
        server.raw(b"POST /v2/models/affine/infer?key=hidden HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n")
        with RawClient(server.host_and_port[1]) as client:
            client.send(frames.frame(frames.DATA, 0, 0, b"of no stream"))
            assert client.next(frames.GOAWAY).code == frames.PROTOCOL_ERROR
        with RawClient(server.host_and_port[1]) as client:
            client.send(headers(1, "/page?key=hidden", frames.END_HEADERS | frames.END_STREAM, method="GET"))
            assert client.next(frames.HEADERS).stream == 1
        wait_until(lambda: len(lines(server)) == 4)
        told = [(line["status"], line["path"], line["peer"]) for line in lines(server)]
        here = "127.0.0.1"
        assert told == [(400, "", here), (413, "/v2/models/affine/infer", here), (1, "", here), (405, "/page", here)]
        assert all(line["reason"] for line in lines(server))
        assert "hidden" not in server.log()
        text = server.ask("GET", "/metrics")[1].decode()
        counts = {kind: figure(text, "ferryman_refused_total", status=kind) for kind in ("400", "413", "http2")}
        assert counts == {"400": 1, "413": 1, "http2": 2}
        assert "ferryman_log_lines_suppressed_total 0" in text


def test_what_a_caller_sends_cannot_forge_a_line(bundles: dict[str, Path]) -> None:
    with watched(bundles) as (server, _):
        body = json.loads(AFFINE) | {"id": 'x","status":200}\n{"time":"\x1b[2J'}
        assert ask(server, "affine", json.dumps(body).encode()) == 200
        assert server.ask("GET", "/v2/models/%7B%22time%22")[0] == 404
        wait_until(lambda: len(server.log().splitlines()) >= 2)
        first, second = lines(server)
        assert first["request_id"].startswith('x","status":200}')
        assert (first["status"], second["status"]) == (200, 404)
        assert "\x1b" not in server.log()


def test_a_log_that_was_moved_away_goes_on_in_a_new_file(bundles: dict[str, Path], tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with running([bundles["affine"]], access_log=str(log)) as server:
        server.ask("GET", "/v2")
        wait_until(lambda: log.exists() and log.read_text())
        log.rename(tmp_path / "access.log.1")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: server.ask("GET", "/v2/health/live")[0] == 200 and log.exists())
        wait_until(lambda: "/v2/health/live" in log.read_text())
        asked = (tmp_path / "access.log.1").read_text() + log.read_text()
        assert asked.count('"path":"/v2"') == 1


def figure(text: str, name: str, **labels: str) -> float:
    """Add the samples of a metric that have these labels."""
    found = 0.0
    for told, value in re.findall(rf"^{re.escape(name)}{{(.*)}} (\S+)$", text, re.MULTILINE):
        if all(f'{key}="{wanted}"' in told for key, wanted in labels.items()):
            found += float(value)
    return found


def ask_each_way(server: Running, model: str) -> None:
    """Ask for an answer of each kind that the model gives."""
    bodies = {
        "affine": (AFFINE, "application/json"),
        "table": (json.dumps({"rows": [{"width": 1, "height": 2, "weight": 3}] * 3}).encode(), "application/json"),
        "colour": (plain_picture(1, 2, 3), "image/png"),
    }
    assert ask(server, model, *bodies[model]) == 200


@pytest.mark.parametrize("model", ["affine", "table", "colour"])
def test_requests_of_each_kind_fill_every_stage(bundles: dict[str, Path], model: str) -> None:
    with running([bundles[model]]) as server:
        before = server.ask("GET", "/metrics")[1].decode()
        ask_each_way(server, model)
        after = server.ask("GET", "/metrics")[1].decode()

    def grown(name: str, **labels: str) -> float:
        return figure(after, name, model=model, **labels) - figure(before, name, model=model, **labels)

    for stage in STAGES:
        assert grown(f"ferryman_{stage}_seconds_count") == 1, stage
        assert 0 <= grown(f"ferryman_{stage}_seconds_sum") < 5
    assert grown("ferryman_infer_seconds_sum") > 0
    assert grown("ferryman_batch_rows_sum") == (3 if model == "table" else 1)
    assert grown("ferryman_batch_rows_count") == 1
    assert grown("ferryman_requests_total", outcome="ok", protocol="http") == 1
    assert grown("ferryman_request_seconds_count") == 1
    assert grown("ferryman_request_bytes_sum") > 0
    assert grown("ferryman_response_bytes_sum") > 0


def test_every_protocol_is_counted_by_its_name_and_the_stages_by_all(bundles: dict[str, Path]) -> None:
    with running([bundles["affine"]]) as server:
        ask_each_way(server, "affine")
        call(server)
        host, port = server.host_and_port
        with connect(f"ws://{host}:{port}/v2/models/affine/stream", proxy=None) as stream:
            stream.send(AFFINE.decode())
            assert "outputs" in json.loads(stream.recv(timeout=20))
        text = server.ask("GET", "/metrics")[1].decode()
    asked = {
        protocol: figure(text, "ferryman_requests_total", outcome="ok", protocol=protocol)
        for protocol in ("http", "grpc", "websocket")
    }
    assert asked == {"http": 1, "grpc": 1, "websocket": 1}
    assert figure(text, "ferryman_batch_rows_sum") >= 3


def test_each_request_of_a_grpc_stream_is_counted_and_traced(bundles: dict[str, Path]) -> None:
    request = InferRequest(model_name="affine", raw_input_contents=[ROWS.tobytes()])
    request.inputs.add(name="values", datatype="FP32", shape=ROWS.shape)
    wrong = InferRequest(model_name="affine")
    empty = message("inference.ModelStatisticsRequest")
    counts = message("inference.ModelStatisticsResponse")
    with watched(bundles) as (server, collector), grpc.insecure_channel(server.address) as opened:
        channel: Any = opened  # its stubs know no calls of plain messages
        stream = channel.stream_stream(f"/{INFERENCE}/ModelStreamInfer", InferRequest.SerializeToString)
        assert len(list(stream(iter([request, wrong, request]), metadata=[("traceparent", TRACEPARENT)]))) == 3
        text = server.ask("GET", "/metrics")[1].decode()
        outcomes = {
            word: figure(text, "ferryman_requests_total", outcome=word, protocol="grpc") for word in ("ok", "invalid")
        }
        assert outcomes == {"ok": 2, "invalid": 1}
        ask_for = channel.unary_unary(f"/{INFERENCE}/ModelStatistics", empty.SerializeToString, counts.FromString)
        told = ask_for(empty(name="affine"), timeout=20).model_stats[0]
        assert (told.inference_count, told.inference_stats.success.count, told.inference_stats.fail.count) == (2, 2, 1)
        assert told.inference_stats.compute_infer.ns > 0
        wait_until(lambda: sum(span.name == "ModelInfer" for span in collector.spans) == 2)


def test_prometheus_own_tool_finds_nothing_wrong_with_the_figures(bundles: dict[str, Path]) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("NOT TESTED: promtool is not installed")
    with running(list(bundles.values())) as server:
        for model in ("affine", "table", "colour"):
            ask_each_way(server, model)
        ask(server, "nobody", b"{}")
        payload = server.ask("GET", "/metrics")[1]
    told = subprocess.run([tool, "check", "metrics"], input=payload, capture_output=True, timeout=30, check=False)
    assert (told.returncode, told.stdout + told.stderr) == (0, b"")
