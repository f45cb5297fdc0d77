"""Real clients' calls: tritonclient's, and grpcio's with the messages of this package."""

import asyncio
import queue
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from ferryman.core.errors import Forbidden, RateLimited, Unauthorized
from ferryman.server.data.grpc.messages import HEALTH, INFERENCE, InferRequest, InferResponse, message
from ferryman.server.data.grpc.settings import GrpcSettings
from tests.server.grpc.serving import DTYPES, Running, serving, wait_for

ROWS = np.arange(60, dtype=np.float32).reshape(2, 30)


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Any]:  # tritonclient has no types
    with triton.InferenceServerClient(server.address) as client:
        yield client


@pytest.fixture(scope="module")
def channel(server: Running) -> Iterator[Any]:  # the stubs know no calls of plain bytes
    with grpc.insecure_channel(server.address) as channel:
        yield channel


def asked(rows: Any = ROWS, name: str = "x", datatype: str = "FP32") -> list[Any]:  # tritonclient has no types
    tensor = triton.InferInput(name, list(rows.shape), datatype)
    tensor.set_data_from_numpy(rows)
    return [tensor]


def infer(channel: Any) -> Any:  # a callable of grpcio
    return channel.unary_unary(f"/{INFERENCE}/ModelInfer", InferRequest.SerializeToString, InferResponse.FromString)


def request(rows: Any = ROWS, model: str = "double", **more: Any) -> Any:
    built = InferRequest(model_name=model, raw_input_contents=[rows.tobytes()], **more)
    built.inputs.add(name="x", datatype="FP32", shape=rows.shape)
    return built


def test_an_inference_gives_every_output(client: Any) -> None:
    answer = client.infer("double", asked(), request_id="seven")
    np.testing.assert_array_equal(answer.as_numpy("y"), 2 * ROWS)
    np.testing.assert_array_equal(answer.as_numpy("sum"), ROWS.sum(1))
    response = answer.get_response()
    assert (response.id, response.model_name, response.model_version) == ("seven", "double", "1")


def test_only_the_outputs_that_were_asked_for_come(client: Any) -> None:
    answer = client.infer("double", asked(), outputs=[triton.InferRequestedOutput("sum")])
    assert [output.name for output in answer.get_response().outputs] == ["sum"]


@pytest.mark.parametrize("dtype", [*DTYPES, "float64", "string"])
def test_every_datatype_comes_back_as_it_went(client: Any, dtype: str) -> None:
    if dtype == "string":
        rows = np.array([["ä", "", "x" * 300]], dtype=object)
        answer = client.infer("echo-string", asked(rows, datatype="BYTES")).as_numpy("y")
        assert [[text.decode() for text in row] for row in answer] == rows.tolist()
        return
    rows = np.array([[0, 1], [1, 0]]).astype(dtype)
    datatype = np_to_triton_dtype(rows.dtype)
    answer = client.infer(f"echo-{dtype}", asked(rows, datatype=datatype)).as_numpy("y")
    assert answer.dtype == rows.dtype
    np.testing.assert_array_equal(answer, rows)


def test_the_client_reads_all_that_a_server_tells(client: Any) -> None:
    assert client.is_server_live()
    assert not client.is_server_ready()  # one model is still loading
    assert client.is_model_ready("double")
    assert not client.is_model_ready("loading")
    assert client.get_server_metadata().version == "1.2.3"
    metadata = client.get_model_metadata("double")
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("double", ["1"], "onnx")
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in metadata.inputs] == [
        ("x", "FP32", [-1, 30])
    ]
    config = client.get_model_config("double").config
    assert (config.name, config.max_batch_size, list(config.input[0].dims)) == ("double", 64, [30])
    assert config.input[0].data_type == 11
    index = [(entry.name, entry.state, entry.reason) for entry in client.get_model_repository_index().models]
    assert index == [("on disk", "UNAVAILABLE", "is not loaded")]  # what its repository knows, loaded or not
    statistics = client.get_inference_statistics("double").model_stats[0]
    assert (statistics.inference_count, statistics.execution_count) == (3, 1)
    stats = statistics.inference_stats
    assert (stats.success.count, stats.success.ns, stats.compute_infer.ns) == (1, 500_000_000, 200_000_000)


def test_the_repository_is_steered(client: Any, server: Running) -> None:
    client.load_model("double")
    client.unload_model("echo")
    assert server.repository.calls == [("load", "double"), ("unload", "echo")]
    with pytest.raises(InferenceServerException, match="no model is called"):
        client.load_model("unknown")


@pytest.mark.parametrize(
    ("model", "rows", "status", "words"),
    [
        ("nowhere", ROWS, "NOT_FOUND", "no model is called 'nowhere'"),
        ("loading", ROWS, "UNAVAILABLE", "is still loading"),
        ("double", ROWS[:, :3], "INVALID_ARGUMENT", r"shape \[2, 3\]"),
        ("broken", np.ones((1, 2), np.float32), "INVALID_ARGUMENT", "the engine can't; send something else"),
        ("broken", np.zeros((1, 2), np.float32), "INTERNAL", r"internal error \(id [0-9a-f]{12}\)"),
        ("absurd", ROWS, "INTERNAL", r"internal error \(id [0-9a-f]{12}\)"),
    ],
)
def test_errors_have_a_status_and_words(client: Any, model: str, rows: Any, status: str, words: str) -> None:
    with pytest.raises(InferenceServerException, match=words) as failure:
        client.infer(model, asked(rows))
    assert failure.value.status() == f"StatusCode.{status}"
    assert "s3cret" not in str(failure.value)


def test_typed_contents_are_answered_with_typed_contents(channel: Any) -> None:
    built = InferRequest(model_name="double")
    built.inputs.add(name="x", datatype="FP32", shape=[2, 30]).contents.fp32_contents.extend(ROWS.ravel())
    answer = infer(channel)(built)
    assert not answer.raw_output_contents
    assert list(answer.outputs[0].contents.fp32_contents) == (2 * ROWS).ravel().tolist()


@pytest.mark.parametrize(
    ("datatype", "dtype", "values"),
    [
        ("BOOL", "bool", [True, False]),
        ("INT8", "int8", [-128, 127]),
        ("INT64", "int64", [-(2**63), 2**63 - 1]),
        ("UINT16", "uint16", [0, 65535]),
        ("UINT64", "uint64", [0, 2**64 - 1]),
        ("FP64", "float64", [0.1, float("inf")]),
        ("BYTES", "string", [b"", "ß".encode()]),
    ],
)
def test_typed_values_keep_their_limits(channel: Any, datatype: str, dtype: str, values: list[Any]) -> None:
    field = {"BOOL": "bool", "INT8": "int", "INT64": "int64", "UINT16": "uint", "UINT64": "uint64", "FP64": "fp64"}
    built = InferRequest(model_name=f"echo-{dtype}")
    contents = built.inputs.add(name="x", datatype=datatype, shape=[1, 2]).contents
    getattr(contents, f"{field.get(datatype, 'bytes')}_contents").extend(values)
    answer = infer(channel)(built)
    assert list(getattr(answer.outputs[0].contents, f"{field.get(datatype, 'bytes')}_contents")) == values


def _mixed(built: Any) -> None:
    built.inputs[0].contents.fp32_contents.append(1)


def _too_few(built: Any) -> None:
    del built.raw_input_contents[:]


def _half(built: Any) -> None:
    del built.raw_input_contents[:]
    built.inputs[0].datatype = "FP16"


def _wrong_field(built: Any) -> None:
    del built.raw_input_contents[:]
    built.inputs[0].contents.int_contents.extend([1] * 60)


def _overflow(built: Any) -> None:
    del built.raw_input_contents[:]
    built.model_name = "echo-int8"
    built.inputs[0].datatype, built.inputs[0].shape[:] = "INT8", [1, 1]
    built.inputs[0].contents.int_contents.append(128)


def _twice(built: Any) -> None:
    built.inputs.append(built.inputs[0])
    built.raw_input_contents.append(built.raw_input_contents[0])


def _short(built: Any) -> None:
    built.raw_input_contents[0] = b"1234"


def _negative(built: Any) -> None:
    built.inputs[0].shape[0] = -1


def _nothing(built: Any) -> None:
    built.ClearField("inputs")


def _unknown_output(built: Any) -> None:
    built.outputs.add(name="nope")


def _bad_timeout(built: Any) -> None:
    built.parameters["timeout"].string_param = "soon"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_mixed, "contents beside raw_input_contents"),
        (_too_few, "0 values can't have shape"),
        (_half, "FP16 has no typed contents"),
        (_wrong_field, "values are in int_contents"),
        (_overflow, "does not fit INT8"),
        (_twice, "twice"),
        (_short, "4 bytes can't be FP32"),
        (_negative, "is not a shape"),
        (_nothing, "no inputs"),
        (_unknown_output, "no output is called 'nope'"),
        (_bad_timeout, "timeout"),
    ],
)
def test_what_can_not_be_read_is_an_invalid_argument(channel: Any, spoil: Callable[[Any], None], words: str) -> None:
    built = request()
    spoil(built)
    with pytest.raises(grpc.RpcError) as failure:
        infer(channel)(built)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in str(failure.value.details())


def test_bytes_that_are_no_message_are_an_invalid_argument(channel: Any) -> None:
    for size in (3, 100_000):
        with pytest.raises(grpc.RpcError) as failure:
            channel.unary_unary(f"/{INFERENCE}/ModelInfer")(b"\xff" * size)
        assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_method_that_is_not_there_is_unimplemented(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        channel.unary_unary("/inference.GRPCInferenceService/SystemSharedMemoryStatus")(b"")
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_32_mb_go_and_come(server: Running) -> None:
    rows = np.arange(8 * 1024 * 1024 - 100, dtype=np.float32).reshape(1, -1)
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.address, options) as channel:
        answer = infer(channel)(request(rows, "echo"), timeout=30)
    assert answer.raw_output_contents[0] == rows.tobytes()


def test_a_message_over_the_limit_is_refused(server: Running) -> None:
    rows = np.zeros((1, 8 * 1024 * 1024 + 1), np.float32)
    with (
        grpc.insecure_channel(server.address, [("grpc.max_send_message_length", -1)]) as channel,
        pytest.raises(grpc.RpcError) as failure,
    ):
        infer(channel)(request(rows, "echo"), timeout=30)
    assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than 33554432 bytes" in str(failure.value.details())


def test_gzip_messages_are_read(server: Running, client: Any) -> None:
    for rows in (ROWS, np.zeros((3000, 30), np.float32), np.random.default_rng(0).random((3000, 30), np.float32)):
        answer = client.infer("double", asked(rows), compression_algorithm="gzip")
        np.testing.assert_array_equal(answer.as_numpy("y"), 2 * rows)


def test_a_message_that_unpacks_to_too_much_is_refused() -> None:
    settings = GrpcSettings(max_message_bytes=1_000_000)
    with serving(settings) as server, grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as failure:
            infer(channel)(request(np.zeros((1, 750_000), np.float32), "echo"), compression=grpc.Compression.Gzip)
        assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "once it is unpacked" in str(failure.value.details())


def test_100_calls_at_once_share_a_connection(channel: Any) -> None:
    call = infer(channel)
    futures = [call.future(request(ROWS + number)) for number in range(100)]
    for number, future in enumerate(futures):
        assert future.result(10).raw_output_contents[0] == (2 * (ROWS + number)).tobytes()


def test_a_cancelled_call_is_given_up(server: Running, channel: Any) -> None:
    future = infer(channel).future(request(model="hang"))
    jobs = wait_for(lambda: server.do(lambda: list(server.hanging.kept)))
    future.cancel()
    wait_for(lambda: server.do(lambda: jobs[0].asks[0].is_settled))
    wait_for(lambda: server.do(lambda: server.over[-1][:2]) == ("hang", 1))
    server.do(server.hanging.let_go)


def test_a_deadline_is_kept_though_the_engine_hangs(server: Running, channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        infer(channel)(request(model="hang"), timeout=0.2)
    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    built = request(model="hang")
    built.parameters["timeout"].int64_param = 100_000  # us: the server's own doing
    with pytest.raises(grpc.RpcError) as failure:
        infer(channel)(built, timeout=10)
    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "not there in time" in str(failure.value.details())
    server.do(server.hanging.let_go)


def test_a_stream_is_answered_in_order_and_goes_on_after_errors(server: Running) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(server.address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for number in range(300):
            rows = ROWS[:, :3] if number == 7 else ROWS + number
            client.async_stream_infer("double", asked(rows), request_id=str(number))
        for number in range(300):
            result, error = answers.get(timeout=10)
            if number == 7:
                assert "shape [2, 3]" in str(error)
            else:
                assert result.get_response().id == str(number)
                np.testing.assert_array_equal(result.as_numpy("y"), 2 * (ROWS + number))
        client.stop_stream()


def test_the_asyncio_client_infers_and_streams(server: Running) -> None:
    async def main() -> None:
        async with triton_aio.InferenceServerClient(server.address) as client:
            answers = await asyncio.gather(*(client.infer("double", asked(ROWS + n)) for n in range(50)))
            for number, answer in enumerate(answers):
                np.testing.assert_array_equal(answer.as_numpy("y"), 2 * (ROWS + number))

            async def ask() -> Any:  # tritonclient has no types
                for number in range(5):
                    yield {"model_name": "double", "inputs": asked(), "request_id": str(number)}

            ids = [result.get_response().id async for result, _ in client.stream_infer(ask())]
            assert ids == list("01234")

    asyncio.run(main())


def test_a_gate_refuses_and_reads_metadata() -> None:
    seen: list[Any] = []

    def admit(header: Any, model: Any, action: Any, peer: Any, certificate: Any) -> None:
        seen.append((header(b"authorization"), model, action, peer))
        if header(b"authorization") is None:
            raise Unauthorized("who are you?")
        if header(b"authorization") == b"Bearer slow":
            raise RateLimited("too fast", retry_after_s=3)
        raise Forbidden("not you")

    with serving(admit=admit) as server, grpc.insecure_channel(server.address) as opened:
        channel: Any = opened
        for token, status in ((None, "UNAUTHENTICATED"), ("slow", "RESOURCE_EXHAUSTED"), ("x", "PERMISSION_DENIED")):
            metadata = [("authorization", f"Bearer {token}")] if token else []
            with pytest.raises(grpc.RpcError) as failure:
                infer(channel)(request(), metadata=metadata)
            assert failure.value.code().name == status
            if token == "slow":
                assert ("retry-after", "3") in [(pair[0], pair[1]) for pair in trailing(failure.value)]
        live = channel.unary_unary(f"/{INFERENCE}/ServerLive")
        assert live(b"") == b"\x08\x01"  # health needs no key
    assert seen[1] == (b"Bearer slow", "double", "infer", "127.0.0.1")


def test_health_is_checked_and_watched(server: Running, channel: Any) -> None:
    question, answer = message("grpc.health.v1.HealthCheckRequest"), message("grpc.health.v1.HealthCheckResponse")
    check = channel.unary_unary(f"/{HEALTH}/Check", question.SerializeToString, answer.FromString)
    assert check(question()).status == 2
    assert check(question(service="double")).status == 1
    with pytest.raises(grpc.RpcError) as failure:
        check(question(service="nope"))
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND
    watch = channel.unary_stream(f"/{HEALTH}/Watch", question.SerializeToString, answer.FromString)
    changes = watch(question(service="watched"), timeout=10)
    assert next(changes).status == 3
    server.do(lambda: server.dataplane.announce("watched", "1"))
    assert next(changes).status == 2
    changes.cancel()
    server.do(lambda: server.dataplane.remove("watched", "1"))


def test_finished_calls_are_told_of(server: Running, client: Any) -> None:
    server.do(server.over.clear)
    client.infer("double", asked())
    model, status, bytes_in, bytes_out = wait_for(lambda: server.do(lambda: server.over[-1:]))[0]
    assert (model, status) == ("double", 0)
    assert bytes_in > 240
    assert bytes_out > 248


def trailing(error: Any) -> Any:  # a grpc.RpcError that is a call, too
    return error.trailing_metadata()
