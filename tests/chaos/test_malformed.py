"""Ten thousand requests that are no requests, over both protocols: no crash, no 5xx, and others don't notice."""

import random
import re
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import hypothesis
import pytest
import schemathesis
from hpack import Decoder, Encoder, HPACKError
from schemathesis.core.result import Ok

from ferryman.server.data.grpc.messages import INFERENCE
from tests.bundle.making import bundle_affine
from tests.chaos.counts import Counts, Report
from tests.chaos.load import HttpLoad, Target
from tests.chaos.questions import affine
from tests.chaos.serving import Serving, serving

HTTP_REQUESTS, HTTP2_CONNECTIONS, GRPC_MESSAGES = 6000, 2000, 2000
EXAMPLES = 40  # of each operation
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
TOKENS = (
    b"\r\n", b"\r\n\r\n", b"\n", b"\0", b" ", b":", b"-1", b"99999999999999999999", b"0", b"chunked", b"identity", b"{",
    b"[" * 200, b"]", b'"', b"NaN", b"\xff\xfe", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Inference-Header-Content-Length: 7\r\n", b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\n", b"..%2f..%00",
)  # fmt: skip
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_ANSWER_S = 20.0
_PAUSE_S = 0.1
_AT_ONCE = 32


def mutated(chance: random.Random, base: bytes) -> bytes:
    """Give the bytes with some of them lost, doubled, swapped or new."""
    spoilt = bytearray(base)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(spoilt) + 1)
        upto = at + chance.choice((1, 1, 2, 8, 40))
        match chance.randrange(17) // 4:
            case 0:
                spoilt[at:upto] = b""
            case 1:
                spoilt[at:at] = spoilt[at:upto]
            case 2:
                spoilt[at:upto] = chance.randbytes(upto - at)
            case 3:
                spoilt[at:at] = chance.choice(TOKENS)
            case _:
                del spoilt[at:]
        if not spoilt:
            spoilt += chance.randbytes(8)
    return bytes(spoilt)


def malformed(chance: random.Random, base: bytes) -> bytes:
    """Give a request with mistakes anywhere, or in its body alone: with the right length, so that it is read."""
    head, separator, body = base.partition(b"\r\n\r\n")
    if chance.random() < 0.5 or b"\nContent-Length" not in head:
        return mutated(chance, base)
    spoilt = mutated(chance, body)
    return re.sub(rb"\nContent-Length: \d+", b"\nContent-Length: %d" % len(spoilt), head) + separator + spoilt


def http_bases() -> list[bytes]:
    """Give requests that are right."""
    whole = affine()(7).http()
    head, _, body = whole.partition(b"\r\n\r\n")
    chunked = re.sub(rb"Content-Length: \d+", b"Transfer-Encoding: chunked", head)
    binary = b'{"inputs":[{"name":"values","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":12}}]}'
    return [
        whole,
        chunked + b"\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
        b"POST /v2/models/affine/infer HTTP/1.1\r\nHost: chaos\r\nContent-Type: application/octet-stream\r\n"
        b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
        % (len(binary), len(binary) + 12)
        + binary
        + bytes(12),
        b"GET /v2/models/affine HTTP/1.1\r\nHost: chaos\r\nTraceparent: 00-11-22-01\r\n\r\n",
        b"GET /v2/models/affine/stream HTTP/1.1\r\nHost: chaos\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x85abcdhello",
    ]


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def http2_base() -> bytes:
    """Give a whole call of ModelInfer, frame by frame."""
    headers = [
        (":method", "POST"), (":scheme", "http"), (":path", f"/{INFERENCE}/ModelInfer"), (":authority", "chaos"),
        ("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "5S"),
    ]  # fmt: skip
    message = affine()(7).grpc().SerializeToString()
    data = b"\0" + len(message).to_bytes(4, "big") + message
    return (
        frame(4, 0, 0, b"")
        + frame(1, 4, 1, Encoder().encode(headers))
        + frame(6, 0, 0, bytes(8))
        + frame(0, 1, 1, data)
    )


def exchange(server: Serving, payload: bytes) -> bytes:
    """Send bytes and read what the server says until it closes; after a pause of it, say that no more come."""
    received = b""
    with socket.create_connection(server.host_and_port) as link:
        link.settimeout(_PAUSE_S)
        with suppress(BrokenPipeError, ConnectionResetError):
            link.sendall(payload)
        with suppress(ConnectionResetError):
            while True:
                try:
                    chunk = link.recv(65536)
                except TimeoutError:
                    link.settimeout(_ANSWER_S)
                    link.shutdown(socket.SHUT_WR)
                    continue
                if not chunk:
                    break
                received += chunk
    return received


def count(counts: Counts, statuses: Sequence[str], *, bad: Callable[[str], bool], good: str) -> None:
    """Count one exchange by its worst status; one that was closed without a word is refused, too."""
    counts.sent += 1
    wrong = [status for status in statuses if bad(status)]
    if wrong:
        counts.fail(wrong[0], "")
    elif statuses and all(status == good for status in statuses):
        counts.answer(0.0)
    else:
        counts.refuse(0.0)


def grpc_statuses(received: bytes) -> list[str]:
    """Give the status of every call in what a server sent."""
    decoder, statuses, at = Decoder(), [], 0
    while at + 9 <= len(received):
        size, kind = int.from_bytes(received[at : at + 3], "big"), received[at + 3]
        if kind == 1:
            with suppress(HPACKError):
                block = decoder.decode(received[at + 9 : at + 9 + size])
                statuses += [str(value) for name, value in block if name in ("grpc-status", b"grpc-status")]
        at += 9 + size
    return statuses


def is_server_error(status: str) -> bool:
    return status.startswith("5") and status != "503"


def is_internal(status: str) -> bool:
    return status in ("13", "2")


@pytest.mark.slow
def test_ten_thousand_malformed_requests_are_refused_and_hurt_nobody(tmp_path: Path, report: Report) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    over_http, over_http2, over_grpc = Counts(), Counts(), Counts()
    said, silent = Counter[str](), Counter[str]()
    with serving([bundle.path]) as server:
        workers = server.workers()
        ask = partial(exchange, server)
        with (
            HttpLoad(Target(server.port), affine(), callers=2, pause_s=0.05) as http,
            ThreadPoolExecutor(_AT_ONCE) as pool,
        ):
            http.wait_for_answers(5)
            chance, bases = random.Random(1), http_bases()
            payloads = [malformed(chance, chance.choice(bases)) for _ in range(HTTP_REQUESTS * 5 // 6)]
            payloads += [chance.randbytes(chance.randint(1, 400)) for _ in range(HTTP_REQUESTS // 6)]
            for received in pool.map(ask, payloads):
                statuses = [status.decode() for status in _STATUS.findall(received)]
                said.update(statuses)
                silent["HTTP"] += not statuses
                count(over_http, statuses, bad=is_server_error, good="200")
            base = http2_base()
            payloads = [PREFACE + mutated(chance, base) for _ in range(HTTP2_CONNECTIONS)]
            for received in pool.map(ask, payloads):
                statuses = grpc_statuses(received)
                silent["HTTP/2"] += not received
                count(over_http2, statuses, bad=is_internal, good="0")
            send_messages(server, chance, over_grpc)
            assert server.ask("GET", "/v2/health/ready")[0] == 200
            http.wait_for_answers(5)
        assert server.workers() == workers, "no worker died of it"
    statuses = [f"{status} {times}x" for status, times in said.most_common()]
    report.add("malformed requests over HTTP", over_http, f"{silent['HTTP']} without a word; {', '.join(statuses)}")
    report.add("malformed frames over HTTP/2", over_http2, f"{silent['HTTP/2']} without a word")
    report.add("malformed messages over gRPC", over_grpc)
    report.add("  and callers beside them", http.counts)
    assert (over_http.failed, over_http2.failed, over_grpc.failed) == ({}, {}, {})
    assert http.counts.answered == http.counts.sent


def send_messages(server: Serving, chance: random.Random, counts: Counts) -> None:
    """Send bytes where messages are due, with a real client."""
    base = affine()(7).grpc().SerializeToString()
    methods = ("ModelInfer", "ModelMetadata", "ModelReady", "RepositoryIndex", "ModelConfig")
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        for _ in range(GRPC_MESSAGES):
            method = chance.choice(methods) if chance.random() < 0.3 else "ModelInfer"
            call: Any = channel.unary_unary(f"/{INFERENCE}/{method}")  # grpcio's stubs know no calls of plain bytes
            payload = mutated(chance, base) if chance.random() < 0.8 else chance.randbytes(chance.randint(0, 300))
            counts.sent += 1
            try:
                call(payload, timeout=_ANSWER_S)
                counts.answer(0.0)
            except grpc.RpcError as error:
                code = error.code()
                if code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE):
                    counts.fail(code.name, str(error))
                else:
                    counts.refuse(0.0)


@pytest.mark.slow
def test_what_the_published_schema_allows_and_forbids_never_breaks_the_server(tmp_path: Path, report: Report) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    counts = Counts()
    with serving([bundle.path]) as server:
        schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        for found in schema.get_all_operations():
            assert isinstance(found, Ok), "the schema describes something that can't be asked"
            fuzz(found.ok(), counts)
        assert server.ask("GET", "/v2/health/ready")[0] == 200
    report.add("requests made of /openapi.json", counts)
    assert counts.failed == {}, counts.examples
    assert counts.sent > 100


def fuzz(operation: Any, counts: Counts) -> None:  # schemathesis' own
    """Send what the schema allows, and what it forbids."""
    for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
        with suppress(hypothesis.errors.Unsatisfiable):  # nothing is forbidden there

            @hypothesis.settings(
                max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
                suppress_health_check=list(hypothesis.HealthCheck),
            )  # fmt: skip
            @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
            def send(case: Any) -> None:  # schemathesis' own
                response = case.call(timeout=_ANSWER_S)
                status = str(response.status_code)
                count(counts, [status], bad=is_server_error, good="200")

            send()
