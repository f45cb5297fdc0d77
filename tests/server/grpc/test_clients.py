"""Real clients' calls: tritonclient's, and grpcio's with the messages of this package."""

import asyncio
import queue
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from ferryman.core.errors import Forbidden, RateLimited, Unauthorized
from ferryman.server.data.grpc.messages import HEALTH, INFERENCE, InferRequest, message
from ferryman.server.data.grpc.settings import GrpcSettings
from tests.server.grpc.asking import ROWS, asked, infer, request
from tests.server.grpc.serving import DTYPES, Running, serving, wait_for


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
    told = " {'unload_dependents': False}"  # which tritonclient always says
    assert server.repository.calls == [("load", "double"), ("unload", f"echo{told}")]
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


def test_an_error_in_a_stream_tells_the_request_that_it_is_about(channel: Any) -> None:
    answer = message("inference.ModelStreamInferResponse")
    call = channel.stream_stream(
        f"/{INFERENCE}/ModelStreamInfer", request_serializer=bytes, response_deserializer=answer.FromString
    )
    asked = [request(model="nowhere", id="a"), InferRequest(model_name="double", id="b"), request(ROWS[:, :3], id="c")]
    told = list(call(one.SerializeToString() for one in asked))
    assert [one.infer_response.id for one in told] == ["a", "b", "c"]
    assert all(one.error_message for one in told)
    (unreadable,) = call(iter([b"\xff"]))
    assert (unreadable.infer_response.id, bool(unreadable.error_message)) == ("", True)


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
