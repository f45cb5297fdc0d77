"""A request's id: the caller's own, or one that the server gives it; answered and logged, whatever kind it is."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from websockets.sync.client import connect

from ferryman.server.data.grpc.messages import INFERENCE, InferRequest, InferResponse, StreamResponse
from tests.bundle.making import plain_picture
from tests.server.running import Running, running, wait_until

_ROWS = {"rows": [{"width": 1, "height": 2, "weight": 0.5}]}
_TENSORS = {"inputs": [{"name": "values", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
_JSON = {"Content-Type": "application/json"}
_PICTURE = plain_picture(1, 2, 3)
_OWN = re.compile("[0-9a-f]{12}-[0-9a-f]+")


@pytest.fixture(scope="module")
def logged(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    log = tmp_path_factory.mktemp("log") / "access.log"
    with running([bundles[name] for name in ("affine", "table", "colour")], access_log=str(log)) as server:
        yield server, log


def _is_logged(log: Path, request_id: str, status: int) -> bool:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return any((line.get("request_id"), line["status"]) == (request_id, status) for line in lines)


@pytest.mark.parametrize(
    ("model", "body"),
    [
        ("table", json.dumps({"id": "in-body-table", **_ROWS}).encode()),
        ("affine", json.dumps({"id": "in-body-affine", **_TENSORS}).encode()),
    ],
)
def test_an_id_in_the_body_is_echoed_and_logged(logged: tuple[Running, Path], model: str, body: bytes) -> None:
    server, log = logged
    assert server.infer(model, body)[1]["id"] == f"in-body-{model}"
    wait_until(lambda: _is_logged(log, f"in-body-{model}", 200))


@pytest.mark.parametrize(
    ("model", "body", "content_type"),
    [
        ("table", json.dumps(_ROWS).encode(), "application/json"),
        ("affine", json.dumps(_TENSORS).encode(), "application/json"),
        ("colour", _PICTURE, "image/png"),
    ],
)
def test_an_id_in_the_header_stands_for_one_in_the_body(
    logged: tuple[Running, Path], model: str, body: bytes, content_type: str
) -> None:
    server, log = logged
    headers = {"Content-Type": content_type, "X-Request-Id": f"header {model}"}
    path = f"/v2/models/{model}/infer"
    status, answer, told = server.ask("POST", path, body, headers)
    assert (status, answer["id"], told["x-request-id"]) == (200, f"header {model}", f"header {model}")
    wait_until(lambda: _is_logged(log, f"header {model}", 200))
    _, without, told = server.ask("POST", path, body, {"Content-Type": content_type})  # the form is known by now
    given = told["x-request-id"]  # the server's own, which the body of an answer never has
    assert "id" not in without and _OWN.fullmatch(given)
    wait_until(lambda: _is_logged(log, given, 200))


def test_no_two_requests_are_given_the_same_id(logged: tuple[Running, Path]) -> None:
    server, _ = logged
    body = json.dumps(_TENSORS).encode()
    given = [server.ask("POST", "/v2/models/affine/infer", body, _JSON)[2]["x-request-id"] for _ in range(20)]
    given += [server.ask("GET", path)[2]["x-request-id"] for path in ("/v2", "/nothing", "/metrics")]
    assert len(set(given)) == 23 and all(map(_OWN.fullmatch, given))


def test_the_id_in_a_body_is_answered_in_the_header(logged: tuple[Running, Path]) -> None:
    server, _ = logged
    for given, answered in {"of the body": "of the body", "zwei\nZeilen \xe4": None, "": None}.items():
        _, answer, told = server.ask(
            "POST", "/v2/models/affine/infer", json.dumps({"id": given, **_TENSORS}).encode(), _JSON
        )
        assert answer["id"] == given
        assert told.get("x-request-id") == answered or (not given and _OWN.fullmatch(told["x-request-id"]))


def test_the_body_goes_before_the_header(logged: tuple[Running, Path]) -> None:
    server, log = logged
    body = json.dumps({"id": "mine", **_TENSORS}).encode()
    _, answer, told = server.ask("POST", "/v2/models/affine/infer", body, {**_JSON, "X-Request-Id": "proxy's"})
    assert (answer["id"], told["x-request-id"]) == ("mine", "proxy's")
    wait_until(lambda: _is_logged(log, "mine", 200))


@pytest.mark.parametrize(("path", "status"), [("/v2/models/affine/infer", 400), ("/nothing", 404), ("/v2", 200)])
def test_refusals_and_pages_have_their_ids(logged: tuple[Running, Path], path: str, status: int) -> None:
    server, log = logged
    method = "POST" if status == 400 else "GET"
    got, _, told = server.ask(method, path, b"{}" if status == 400 else None, {**_JSON, "X-Request-Id": f"at {path}"})
    assert (got, told["x-request-id"]) == (status, f"at {path}")
    wait_until(lambda: _is_logged(log, f"at {path}", status))


@pytest.mark.parametrize("given", ["x" * 129, "tab\there", "umlaut-\xe4", ""])
def test_an_id_that_is_not_fit_for_a_log_is_ignored(logged: tuple[Running, Path], given: str) -> None:
    server, _ = logged
    headers = {**_JSON, "X-Request-Id": given}
    status, answer, told = server.ask("POST", "/v2/models/affine/infer", json.dumps(_TENSORS).encode(), headers)
    assert status == 200 and "id" not in answer and _OWN.fullmatch(told["x-request-id"])


@pytest.mark.parametrize(("own", "expected"), [("", "of the metadata"), ("of the message", "of the message")])
def test_an_id_in_a_calls_metadata_stands_for_one_in_its_message(
    logged: tuple[Running, Path], own: str, expected: str
) -> None:
    server, log = logged
    request = InferRequest(model_name="affine", id=own)
    request.inputs.add(name="values", datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend([1, 2, 3])
    with grpc.insecure_channel(server.address) as opened:
        channel: Any = opened  # its stubs know no calls of plain messages
        ask = channel.unary_unary(f"/{INFERENCE}/ModelInfer", InferRequest.SerializeToString, InferResponse.FromString)
        answer = ask(request, metadata=[("x-request-id", "of the metadata")], timeout=20)
        assert answer.id == expected
        wait_until(lambda: _is_logged(log, expected, 0))
        request.inputs[0].name = "other"
        with pytest.raises(grpc.RpcError):
            ask(request, metadata=[("x-request-id", f"wrong, {expected}")], timeout=20)
        wait_until(lambda: _is_logged(log, own or f"wrong, {expected}", 3))


def _metadata(call: Any) -> str:  # of grpc
    return str(dict(call.trailing_metadata())["x-request-id"])


def test_a_call_without_an_id_is_given_one_in_its_trailing_metadata(logged: tuple[Running, Path]) -> None:
    server, log = logged
    request = InferRequest(model_name="affine")
    request.inputs.add(name="values", datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend([1, 2, 3])
    with grpc.insecure_channel(server.address) as opened:
        channel: Any = opened  # its stubs know no calls of plain messages
        ask = channel.unary_unary(f"/{INFERENCE}/ModelInfer", InferRequest.SerializeToString, InferResponse.FromString)
        answer, call = ask.with_call(request, timeout=20)
        given = _metadata(call)
        assert answer.id == "" and _OWN.fullmatch(given)
        wait_until(lambda: _is_logged(log, given, 0))
        request.inputs[0].name = "other"
        with pytest.raises(grpc.RpcError) as refused:
            ask(request, timeout=20)
        refusal = _metadata(refused.value)
        assert _OWN.fullmatch(refusal) and refusal != given
        wait_until(lambda: _is_logged(log, refusal, 3))
        request.inputs[0].name, request.id = "values", "not fit for a header: \xe4"
        answer, call = ask.with_call(request, timeout=20)
        assert answer.id == request.id and "x-request-id" not in dict(call.trailing_metadata())


def test_each_request_of_a_stream_is_given_an_id(logged: tuple[Running, Path]) -> None:
    server, _ = logged
    requests = [InferRequest(model_name="affine", id=given) for given in ("", "mine", "")]
    for request in requests:
        request.inputs.add(name="values", datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend([1, 2, 3])
    with grpc.insecure_channel(server.address) as opened:
        channel: Any = opened
        path = f"/{INFERENCE}/ModelStreamInfer"
        ask = channel.stream_stream(path, InferRequest.SerializeToString, StreamResponse.FromString)
        first, own, last = [answer.infer_response.id for answer in ask(iter(requests), timeout=20)]
    assert own == "mine" and first != last and _OWN.fullmatch(first) and _OWN.fullmatch(last)


def test_each_frame_has_an_id_of_its_own(logged: tuple[Running, Path]) -> None:
    server, _ = logged
    host, port = server.host_and_port
    with connect(f"ws://{host}:{port}/v2/models/affine/stream", proxy=None, close_timeout=5) as client:
        for given in ({}, {"id": "mine"}, {}):
            client.send(json.dumps({**_TENSORS, **given}))
        first, own, last = [json.loads(client.recv(timeout=20))["id"] for _ in range(3)]
    start = first.removesuffix("-0")
    assert (own, last) == ("mine", f"{start}-2") and _OWN.fullmatch(start)
