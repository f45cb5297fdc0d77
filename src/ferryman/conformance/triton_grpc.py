"""Checks by tritonclient.grpc and tritonclient.grpc.aio."""

import asyncio
import importlib
import queue
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from ferryman.conformance.broken import NotTried, expect
from ferryman.conformance.case import Case
from ferryman.conformance.check import Check
from ferryman.conformance.clients import Client, Module, call_options, open_grpc, open_stub, with_aio
from ferryman.conformance.triton import compare_result, expect_refused, inputs_of, or_refused, outputs_of

_aio = partial(with_aio, "grpc")
UNKNOWN = ("StatusCode.NOT_FOUND", "StatusCode.INVALID_ARGUMENT", "StatusCode.UNAVAILABLE")
WRONG = ("StatusCode.INVALID_ARGUMENT",)


def _server(case: Case) -> None:
    with open_grpc(case) as (client, _):
        expect(client.is_server_live(**call_options(case)) is True, "ServerLive gives False")
        expect(client.is_server_ready(**call_options(case)) is True, "ServerReady gives False")
        about = client.get_server_metadata(**call_options(case))
        for key in ("name", "version"):
            expect(getattr(about, key) == case.target.about.get(key), f"'{key}' differs from GET /v2")


def _model(case: Case) -> None:
    with open_grpc(case) as (client, _):
        expect(client.is_model_ready(case.model, **call_options(case)) is True, "ModelReady gives False")
        about = client.get_model_metadata(case.model, **call_options(case))
        expect(about.name == case.model, f"ModelMetadata is of '{about.name}'")
        for side in ("inputs", "outputs"):
            told = [(one.name, one.datatype, list(one.shape)) for one in getattr(about, side)]
            wanted = [(one["name"], one["datatype"], list(one["shape"])) for one in case.metadata.get(side) or []]
            expect(told == wanted, f"'{side}' differ from those over HTTP: {told}")


def _infer(case: Case) -> None:
    with open_grpc(case) as (client, module):
        result = client.infer(case.model, inputs_of(case, module), request_id="r-1", **call_options(case))
        compare_result(case, result, way="gRPC")
        expect(result.get_response().id == "r-1", "the request's id doesn't come back")
        expect(result.get_response().model_name == case.model, "'model_name' is another")


def _requested(case: Case) -> None:
    with open_grpc(case) as (client, module):
        first = next(iter(case.wanted))
        asked = outputs_of([first], module)
        result = client.infer(case.model, inputs_of(case, module), outputs=asked, **call_options(case))
        compare_result(case, result, way="one output asked for", names=[first])
        expect(len(result.get_response().outputs) == 1, "more outputs than asked for")


def _versioned(case: Case) -> None:
    with open_grpc(case) as (client, module):
        result = client.infer(case.model, inputs_of(case, module), model_version=case.version, **call_options(case))
        compare_result(case, result, way="model_version")


def _parameters(case: Case) -> None:
    with open_grpc(case) as (client, module):
        options = {**call_options(case), "parameters": {"of_ours": "1", "number": 2, "flag": True}}
        result = or_refused(
            lambda: client.infer(case.model, inputs_of(case, module), priority=1, timeout=10_000_000, **options)
        )
        compare_result(case, result, way="parameters, priority, timeout")


def _compressed(algorithm: str) -> Callable[[Case], None]:
    def run(case: Case) -> None:
        with open_grpc(case) as (client, module):
            options = {**call_options(case), "compression_algorithm": algorithm}
            result = or_refused(lambda: client.infer(case.model, inputs_of(case, module), **options))
            compare_result(case, result, way=algorithm)

    return run


def _async(case: Case) -> None:
    with open_grpc(case) as (client, module):
        heard: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()  # InferResult, exception
        for turn in range(8):
            client.async_infer(
                case.model,
                inputs_of(case, module),
                lambda result, error: heard.put((result, error)),
                request_id=f"r-{turn}",
                **call_options(case),
            )
        ids = set()
        for _ in range(8):
            result, error = heard.get(timeout=case.target.timeout_s)
            expect(error is None, f"async_infer gives {error}")
            compare_result(case, result, way="async_infer")
            ids.add(result.get_response().id)
        expect(len(ids) == 8, "ids are mixed up")


def _stream(case: Case) -> None:
    _need_stream(case)
    with open_grpc(case) as (client, module):
        heard: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()  # InferResult, exception
        client.start_stream(
            lambda result, error: heard.put((result, error)),
            headers=call_options(case)["headers"],
            stream_timeout=case.target.timeout_s,
        )
        try:
            for turn in range(4):
                client.async_stream_infer(case.model, inputs_of(case, module), request_id=f"r-{turn}")
            for turn in range(4):
                result, error = heard.get(timeout=case.target.timeout_s)
                or_refused(partial(_raise, error))
                compare_result(case, result, way="stream")
                expect(result.get_response().id == f"r-{turn}", "answers of a stream come in another order")
        finally:
            client.stop_stream()


def _need_stream(case: Case) -> None:
    """Raise NotTried where the server has no streams: clients report that in too many ways."""
    from tritonclient.grpc import service_pb2

    grpc: Any = importlib.import_module("grpc")  # it has no types
    with open_stub(case) as (stub, options):
        asked = iter([service_pb2.ModelInferRequest(model_name=case.model)])
        answers = stub.ModelStreamInfer(asked, **options)
        try:
            next(answers, None)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED or "not implemented" in str(error.details()).lower():
                raise NotTried("the server has no ModelStreamInfer") from None


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error


def _unknown(case: Case) -> None:
    with open_grpc(case) as (client, module):
        options = call_options(case)
        tensors = inputs_of(case, module)
        expect_refused(lambda: client.infer("no-such-model-here", tensors, **options), statuses=UNKNOWN)
        expect_refused(lambda: client.get_model_metadata("no-such-model-here", **options), statuses=UNKNOWN)


def _wrong(case: Case) -> None:
    with open_grpc(case) as (client, module):
        tensors = inputs_of(case, module)
        tensors[0].set_shape([1, *case.inputs[0].shape])
        expect_refused(lambda: client.infer(case.model, tensors, **call_options(case)), statuses=WRONG)


def _deadline(case: Case) -> None:
    from tritonclient.utils import InferenceServerException

    with open_grpc(case) as (client, module):
        for _ in range(5):
            try:
                result = client.infer(
                    case.model, inputs_of(case, module), **{**call_options(case), "client_timeout": 1e-6}
                )
                compare_result(case, result, way="a very short deadline")  # a fast server may keep even that
            except InferenceServerException as error:
                expect(str(error.status()) == "StatusCode.DEADLINE_EXCEEDED", f"status {error.status()}: {error}")
        expect(client.is_server_live(**call_options(case)) is True, "the server is not live after that")


def _config(case: Case) -> None:
    with open_grpc(case) as (client, _):
        config = or_refused(lambda: client.get_model_config(case.model, **call_options(case)))
        expect(config.config.name == case.model, f"the config's name is {config.config.name!r}")


async def _aio_infer(case: Case, client: Client, module: Module) -> None:
    expect(await client.is_server_live(**call_options(case)) is True, "ServerLive gives False")
    expect(await client.is_model_ready(case.model, **call_options(case)) is True, "ModelReady gives False")

    async def one(turn: int) -> None:
        result = await client.infer(case.model, inputs_of(case, module), request_id=f"r-{turn}", **call_options(case))
        compare_result(case, result, way="gRPC aio")
        expect(result.get_response().id == f"r-{turn}", "answers are mixed up")

    await asyncio.gather(*(one(turn) for turn in range(8)))


async def _aio_stream(case: Case, client: Client, module: Module) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:  # keywords of one request
        for turn in range(4):
            yield {"model_name": case.model, "inputs": inputs_of(case, module), "request_id": f"r-{turn}"}

    turn = 0
    async for result, error in client.stream_infer(
        requests(), headers=call_options(case)["headers"], stream_timeout=case.target.timeout_s
    ):
        or_refused(partial(_raise, error))
        compare_result(case, result, way="aio stream")
        expect(result.get_response().id == f"r-{turn}", "answers of a stream come in another order")
        turn += 1
        if turn == 4:
            break
    expect(turn == 4, f"{turn} answers for 4 requests")


def _aio_stream_if_offered(case: Case) -> None:
    _need_stream(case)
    _aio(_aio_stream)(case)


_GRPC, _INFER = "GRPC", "GRPC: Inference"


def _check(name: str, title: str, says: str, section: str, run: Callable[[Case], None], **more: Any) -> Check:  # fields
    return Check(f"triton-grpc.{name}", title, says, section, run, needs_grpc=True, **more)


CHECKS = (
    _check("server", "tritonclient.grpc: server", "live, ready, metadata as over HTTP", _GRPC, _server, scope="server"),
    _check("model", "tritonclient.grpc: model", "ready, metadata as over HTTP", _GRPC, _model),
    _check("infer", "tritonclient.grpc: infer", "raw tensors in and out", _INFER, _infer),
    _check("outputs", "tritonclient.grpc: one output", "outputs name what is returned", _INFER, _requested),
    _check("version", "tritonclient.grpc: a version", "model_version asks one", _INFER, _versioned),
    _check("async", "tritonclient.grpc: async_infer", "eight at a time keep their ids", _INFER, _async),
    _check("unknown", "tritonclient.grpc: unknown model", "an error's status says what is wrong", _GRPC, _unknown),
    _check("wrong", "tritonclient.grpc: a wrong shape is INVALID_ARGUMENT", "the caller's mistake", _INFER, _wrong),
    _check("deadline", "tritonclient.grpc: deadlines too short", "as gRPC says", "gRPC", _deadline),
    _check("parameters", "tritonclient.grpc: parameters, priority, timeout", "a server may refuse what it doesn't know",
           "Parameters", _parameters, optional=True),
    _check("gzip", "tritonclient.grpc: gzip", "as gRPC says", "gRPC", _compressed("gzip"), optional=True),
    _check("deflate", "tritonclient.grpc: deflate", "as gRPC says", "gRPC", _compressed("deflate"), optional=True),
    _check("stream", "tritonclient.grpc: ModelStreamInfer", "one answer a request, in order", "Triton's stream",
           _stream, optional=True),
    _check("config", "tritonclient.grpc: ModelConfig", "the model's configuration", "Model Configuration Extension",
           _config, extension="model_configuration"),
    _check("aio-infer", "tritonclient.grpc.aio: eight at a time", "answers keep their ids", _INFER, _aio(_aio_infer)),
    _check("aio-stream", "tritonclient.grpc.aio: stream_infer", "one answer a request, in order", "Triton's stream",
           _aio_stream_if_offered, optional=True),
)  # fmt: skip
