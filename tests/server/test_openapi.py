"""The published description is true: a fuzzer that believes it gets no answer that it doesn't foresee."""

import json
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from ferryman.core.task import Item
from tests.bundle.making import COLUMNS, bundle_model, make_table_model
from tests.server.running import Running, running


def no_fault_of_the_server(context: Any, response: Any, case: Any) -> bool | None:  # schemathesis' own
    """Fail on 5xx, but for 504: a fuzzer may well give a request some microseconds only."""
    return None if response.status_code == 504 else not_a_server_error(context, response, case)


CHECKS = [
    no_fault_of_the_server, status_code_conformance, content_type_conformance, response_schema_conformance,
    response_headers_conformance, unsupported_method,
]  # fmt: skip
FEW = settings(
    max_examples=8, deadline=None, database=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
GONE_AFTERWARDS = "/unload$"


@pytest.fixture(scope="module")
def steered(bundles: dict[str, Path]) -> Iterator[Running]:
    with running(list(bundles.values()), admin_port=0, max_body_bytes=200_000, receive_s=1, max_queue=64) as server:
        yield server


def fuzz(url: str, mode: GenerationMode) -> int:
    """Ask every operation with values of its description, or with others; gives how many operations there were."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json").exclude(path_regex=GONE_AFTERWARDS)
    schema.config.update(base_url=url)
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    for operation in operations:

        @FEW
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:  # schemathesis' own, which is made at run time
            case.call_and_validate(checks=CHECKS, timeout=20)

        if mode is GenerationMode.POSITIVE or operation.body:
            ask()
    return len(operations)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("port", ["callers", "operators"])
def test_a_fuzzer_finds_no_answer_that_is_not_described(steered: Running, port: str, mode: GenerationMode) -> None:
    url = steered.url if port == "callers" else steered.admin_url
    assert fuzz(url, mode) >= 50
    assert steered.ask("GET", "/v2/health/ready")[0] == 200
    assert "request failed" not in steered.log()


def description(server: Running) -> dict[str, Any]:  # JSON
    found: dict[str, Any] = server.ask("GET", "/openapi.json")[1]
    return found


def test_every_address_of_a_model_is_described(server: Running) -> None:
    paths = description(server)["paths"]
    for verb in ("", "/ready", "/config", "/stats", "/stream", "/infer"):
        method = "post" if verb == "/infer" else "get"
        assert set(paths[f"/v2/models/affine{verb}"]) == {method}
    for verb in ("load", "unload"):
        assert set(paths[f"/v2/repository/models/affine/{verb}"]) == {"post"}
    told = description(server)["components"]["schemas"]["Parameters"]["properties"]
    assert set(told) == {"timeout", "priority", "binary_data_output"}


def status_line(received: bytes) -> tuple[str, set[str]]:
    head, _, body = received.partition(b"\r\n\r\n")
    assert isinstance(json.loads(body)["error"], str)
    names = {line.partition(b":")[0].decode().lower() for line in head.split(b"\r\n")[1:]}
    return head.split(b" ")[1].decode(), names


def test_statuses_that_a_fuzzer_does_not_provoke_are_described_with_their_headers(server: Running) -> None:
    described = description(server)
    infer = described["paths"]["/v2/models/affine/infer"]["post"]["responses"]
    post = b"POST /v2/models/affine/infer HTTP/1.1\r\nHost: x\r\n"
    provoked = {
        "404": b"POST /v2/models/nobody/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        "405": b"DELETE /v2/models/affine/infer HTTP/1.1\r\nHost: x\r\n\r\n",
        "408": post + b"Content-Length: 100\r\n\r\n{",
        "413": post + b"Content-Length: 99999999\r\n\r\n",
        "414": b"POST /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        "415": post + b"Content-Type: text/css\r\nContent-Length: 2\r\n\r\n{}",
        "431": post + b"".join(b"X-%d: x\r\n" % place for place in range(2000)) + b"\r\n",
        "501": post + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    }
    for status, request in provoked.items():
        got, names = status_line(server.raw(request))
        assert got == status
        response = described["components"]["responses"][infer[status]["$ref"].rpartition("/")[2]]
        assert {name.lower() for name in response.get("headers", {})} <= names
    rest = {"200", "400", "401", "403", "429", "500", "503", "504"}  # of the fuzzer's, and of other tests'
    assert set(infer) == rest | set(provoked)


def test_every_example_is_answered(server: Running) -> None:
    examples = {
        path: content["example"]
        for path, operations in description(server)["paths"].items()
        for kind, content in operations.get("post", {}).get("requestBody", {}).get("content", {}).items()
        if "example" in content
    }
    assert {path.split("/")[3] for path in examples} == {"affine", "table", "zoo"}, "a picture's tensor is none to send"
    statuses = {path: server.infer(path.split("/")[3], example)[0] for path, example in examples.items()}
    assert set(statuses.values()) == {200}


@pytest.mark.parametrize("model", ["affine", "table", "zoo"])
def test_a_model_s_tensors_are_shown_with_as_many_values_as_they_hold(server: Running, model: str) -> None:
    content = description(server)["paths"][f"/v2/models/{model}/infer"]["post"]["requestBody"]["content"]
    tensors = content["application/json"]["x-tensors"]
    assert all(len(tensor["data"]) == prod(tensor["shape"]) for tensor in tensors)
    assert server.infer(model, {"inputs": tensors})[0] == 200


def test_the_example_of_a_table_whose_cells_came_as_text_is_answered(tmp_path: Path) -> None:
    rows: list[Item] = [{"width": "1.0", "height": "2", "weight": "0.5"}, {"width": "1e3", "height": 0, "weight": 3.0}]
    task = {"kind": "tabular", "columns": list(COLUMNS), "labels": ["light", "heavy"], "missing": False}
    bundle = bundle_model(tmp_path / "table", make_table_model(tmp_path / "model"), task, rows, name="table")
    with running([bundle.path]) as server:
        path = "/v2/models/table/infer"
        described = description(server)["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert server.infer("table", described["example"])[0] == 200
        status, answer, _ = server.ask("POST", path, b"a", {"Content-Type": "text/css"})
        assert status == 415 and '{"rows":[{"width":0,"height":0,"weight":0}]}' in answer["error"]
