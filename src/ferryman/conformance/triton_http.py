"""Checks by tritonclient.http and tritonclient.http.aio."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from ferryman.conformance.broken import expect
from ferryman.conformance.case import Case
from ferryman.conformance.check import Check
from ferryman.conformance.clients import Client, Module, open_http, with_aio
from ferryman.conformance.triton import compare_result, expect_refused, inputs_of, or_refused, outputs_of

_aio = partial(with_aio, "http")
_CLIENT_ERRORS = [str(status) for status in range(400, 500)]


def _headers(case: Case) -> dict[str, str]:
    return dict(case.target.headers)


def _server(case: Case) -> None:
    with open_http(case) as (client, _):
        expect(client.is_server_live(headers=_headers(case)) is True, "is_server_live gives False")
        expect(client.is_server_ready(headers=_headers(case)) is True, "is_server_ready gives False")
        about = client.get_server_metadata(headers=_headers(case))
        expect(about == case.target.about, "get_server_metadata differs from GET /v2")
        expect(
            client.is_model_ready("no-such-model-here", headers=_headers(case)) is False, "an unknown model is ready"
        )


def _model(case: Case) -> None:
    with open_http(case) as (client, _):
        expect(client.is_model_ready(case.model, headers=_headers(case)) is True, "is_model_ready gives False")
        about = client.get_model_metadata(case.model, headers=_headers(case))
        expect(about == case.metadata, "get_model_metadata differs from GET /v2/models/{m}")
        if case.version:
            about = client.get_model_metadata(case.model, case.version, headers=_headers(case))
            expect(about["name"] == case.model, "get_model_metadata of a version gives another model")


def _config(case: Case) -> None:
    with open_http(case) as (client, _):
        config = or_refused(lambda: client.get_model_config(case.model, headers=_headers(case)))
        expect(config.get("name") == case.model, f"the config's name is {config.get('name')!r}")


def _statistics(case: Case) -> None:
    with open_http(case) as (client, _):
        told = or_refused(lambda: client.get_inference_statistics(case.model, headers=_headers(case)))
        expect(isinstance(told.get("model_stats"), list), "the answer has no list 'model_stats'")


def _infer(*, binary_in: bool, binary_out: bool) -> Callable[[Case], None]:
    def run(case: Case) -> None:
        if binary_in or binary_out:
            case.need_binary()
        if not (binary_in and binary_out):
            case.need_json()
        with open_http(case) as (client, module):
            result = client.infer(
                case.model,
                inputs_of(case, module, is_binary=binary_in),
                outputs=outputs_of(case.wanted, module, is_binary=binary_out),
                request_id="r-1",
                headers=_headers(case),
            )
            compare_result(case, result, way=f"binary in {binary_in}, out {binary_out}")
            expect(result.get_response().get("id") == "r-1", "the request's id doesn't come back")

    return run


def _keeps_connection(case: Case) -> None:
    case.need_json()
    with open_http(case) as (client, module):
        for turn in range(10):
            result = client.infer(
                case.model,
                inputs_of(case, module, is_binary=False),
                outputs=outputs_of(case.wanted, module, is_binary=False),
                headers=_headers(case),
            )
            compare_result(case, result, way=f"request {turn + 1} on a connection")


def _versioned(case: Case) -> None:
    case.need_json()
    with open_http(case) as (client, module):
        result = client.infer(
            case.model,
            inputs_of(case, module, is_binary=False),
            model_version=case.version,
            outputs=outputs_of(case.wanted, module, is_binary=False),
            headers=_headers(case),
        )
        compare_result(case, result, way="model_version")


def _parameters(case: Case) -> None:
    case.need_json()
    with open_http(case) as (client, module):
        result = or_refused(
            lambda: client.infer(
                case.model,
                inputs_of(case, module, is_binary=False),
                outputs=outputs_of(case.wanted, module, is_binary=False),
                headers={**_headers(case), "X-Of-Ours": "1"},
                priority=1,
                timeout=10_000_000,
                parameters={"of_ours": "1", "number": 2, "flag": True},
            )
        )
        compare_result(case, result, way="parameters, priority, timeout")


def _compressed(*, request: str | None, response: str | None) -> Callable[[Case], None]:
    def run(case: Case) -> None:
        case.need_json()
        with open_http(case) as (client, module):
            result = or_refused(
                lambda: client.infer(
                    case.model,
                    inputs_of(case, module, is_binary=False),
                    outputs=outputs_of(case.wanted, module, is_binary=False),
                    headers=_headers(case),
                    request_compression_algorithm=request,
                    response_compression_algorithm=response,
                )
            )
            compare_result(case, result, way=f"request {request}, answer {response}")

    return run


def _async(case: Case) -> None:
    case.need_json()
    with open_http(case, concurrency=4) as (client, module):
        asked = [
            client.async_infer(
                case.model,
                inputs_of(case, module, is_binary=False),
                outputs=outputs_of(case.wanted, module, is_binary=False),
                request_id=f"r-{turn}",
                headers=_headers(case),
            )
            for turn in range(8)
        ]
        for turn, one in enumerate(asked):
            result = one.get_result(timeout=case.target.timeout_s)
            compare_result(case, result, way="async_infer")
            expect(result.get_response().get("id") == f"r-{turn}", "answers are mixed up")


def _unknown(case: Case) -> None:
    case.need_json()
    with open_http(case) as (client, module):
        tensors = inputs_of(case, module, is_binary=False)
        expect_refused(lambda: client.infer("no-such-model-here", tensors), statuses=_CLIENT_ERRORS)
        expect_refused(
            lambda: client.infer(case.model, tensors, model_version="987654321", headers=_headers(case)),
            statuses=_CLIENT_ERRORS,
        )


async def _aio_facts(case: Case, client: Client, _: Module) -> None:
    headers = _headers(case)
    expect(await client.is_server_live(headers=headers) is True, "is_server_live gives False")
    expect(await client.is_server_ready(headers=headers) is True, "is_server_ready gives False")
    expect(await client.is_model_ready(case.model, headers=headers) is True, "is_model_ready gives False")
    expect(await client.get_server_metadata(headers=headers) == case.target.about, "get_server_metadata differs")
    expect(await client.get_model_metadata(case.model, headers=headers) == case.metadata, "get_model_metadata differs")


def _aio_infer(*, is_binary: bool) -> Callable[[Case, Client, Module], Awaitable[None]]:
    async def ask(case: Case, client: Client, module: Module) -> None:
        if not is_binary:
            case.need_json()

        async def one(turn: int) -> None:
            result = await client.infer(
                case.model,
                inputs_of(case, module, is_binary=is_binary),
                outputs=outputs_of(case.wanted, module, is_binary=is_binary),
                request_id=f"r-{turn}",
                headers=_headers(case),
            )
            compare_result(case, result, way="aio")
            expect(result.get_response().get("id") == f"r-{turn}", "answers are mixed up")

        await asyncio.gather(*(one(turn) for turn in range(8)))

    return ask


_HTTP, _INFER, _BINARY = "REST", "REST: Inference", "Binary Tensor Data Extension"
CHECKS = (
    Check("triton-http.server", "tritonclient.http: server", "live, ready, metadata", _HTTP, _server, "server"),
    Check("triton-http.model", "tritonclient.http: model", "ready and metadata, by version, too", _HTTP, _model),
    Check("triton-http.json", "tritonclient.http: infer with JSON", "JSON in and out", _INFER,
          _infer(binary_in=False, binary_out=False)),
    Check("triton-http.binary", "tritonclient.http: infer with bytes", "bytes in and out", _BINARY,
          _infer(binary_in=True, binary_out=True), extension="binary_tensor_data"),
    Check("triton-http.binary-in", "tritonclient.http: bytes in, JSON out", "each side is free", _BINARY,
          _infer(binary_in=True, binary_out=False), extension="binary_tensor_data"),
    Check("triton-http.binary-out", "tritonclient.http: JSON in, bytes out", "each side is free", _BINARY,
          _infer(binary_in=False, binary_out=True), extension="binary_tensor_data"),
    Check("triton-http.many", "tritonclient.http: ten on one connection", "connections are kept", _HTTP,
          _keeps_connection),
    Check("triton-http.version", "tritonclient.http: a version", "versions/{v}/infer", _INFER, _versioned),
    Check("triton-http.async", "tritonclient.http: async_infer", "eight at a time keep their ids", _INFER, _async),
    Check("triton-http.unknown", "tritonclient.http: unknown model and version", "errors are 4xx", _INFER, _unknown),
    Check("triton-http.parameters", "tritonclient.http: parameters, priority, timeout, headers",
          "parameters that a server doesn't know it may refuse", "Parameters", _parameters, optional=True),
    Check("triton-http.gzip", "tritonclient.http: gzip both ways", "as HTTP says", "HTTP", optional=True,
          run=_compressed(request="gzip", response="gzip")),
    Check("triton-http.deflate", "tritonclient.http: deflate both ways", "as HTTP says", "HTTP", optional=True,
          run=_compressed(request="deflate", response="deflate")),
    Check("triton-http.gzip-out", "tritonclient.http: gzip out", "a server may answer plainly", "HTTP", optional=True,
          run=_compressed(request=None, response="gzip")),
    Check("triton-http.config", "tritonclient.http: get_model_config", "GET .../config",
          "Model Configuration Extension", _config, extension="model_configuration"),
    Check("triton-http.statistics", "tritonclient.http: get_inference_statistics", "GET .../stats",
          "Statistics Extension", _statistics, extension="statistics"),
    Check("triton-http.aio-facts", "tritonclient.http.aio: server and model", "live, ready, metadata", _HTTP,
          _aio(_aio_facts)),
    # This client calls its JSON application/octet-stream.
    Check("triton-http.aio-json", "tritonclient.http.aio: eight at a time, JSON", "answers keep their ids", _INFER,
          _aio(_aio_infer(is_binary=False))),
    Check("triton-http.aio-binary", "tritonclient.http.aio: eight at a time, bytes", "answers keep their ids", _BINARY,
          _aio(_aio_infer(is_binary=True)), extension="binary_tensor_data"),
)  # fmt: skip
