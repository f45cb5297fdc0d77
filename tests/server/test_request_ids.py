"""The caller's own name for a request: echoed and logged, whatever kind of request it is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from ferryman.server.data.grpc.messages import INFERENCE, InferRequest, InferResponse
from tests.bundle.making import plain_picture
from tests.server.running import Running, running, wait_until

_ROWS = {"rows": [{"width": 1, "height": 2, "weight": 0.5}]}
_TENSORS = {"inputs": [{"name": "values", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
_JSON = {"Content-Type": "application/json"}
_PICTURE = plain_picture(1, 2, 3)


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
    assert "id" not in without and "x-request-id" not in told


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
    assert status == 200 and "id" not in answer and "x-request-id" not in told


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
