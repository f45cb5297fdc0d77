"""Deadlines and priorities mean the same over HTTP and gRPC, and what is too late never reaches the engine."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from ferryman.server.data.grpc.messages import INFERENCE, InferRequest, InferResponse
from tests.server.misbehaving import ANSWER, COUNT, SLEEP, bundle_misbehaving, with_plugin
from tests.server.running import Running, running, wait_until

BUSY_S = 0.6
HIGH, NORMAL, LOW = 1, 0, 2
Parameters = dict[str, int]


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Serve a model that answers one request after the other, and takes as long as it is told to."""
    folder = tmp_path_factory.mktemp("busy")
    with pytest.MonkeyPatch.context() as patch:
        with_plugin(patch)
        bundle = bundle_misbehaving(folder / "busy", name="busy")
        with running([bundle.path], processes=1, instances=1, max_batch=1, max_queue=24, probe_s=3600) as server:
            yield server


def ask(server: Running, code: int, argument: float, **parameters: int) -> tuple[int, Any]:
    tensor = {"name": "order", "datatype": "FP32", "shape": [1, 2], "data": [code, argument]}
    return server.infer("busy", {"inputs": [tensor], "parameters": parameters})


def answer_to(
    server: Running, code: int, argument: float, *, timeout_s: float | None = None, **parameters: int
) -> Any:  # a message
    request = InferRequest(model_name="busy", raw_input_contents=[np.array([[code, argument]], np.float32).tobytes()])
    request.inputs.add(name="order", datatype="FP32", shape=[1, 2])
    for name, value in parameters.items():
        request.parameters[name].int64_param = value
    with grpc.insecure_channel(server.address) as channel:
        method: Any = channel.unary_unary(  # the stubs know no calls of plain messages
            f"/{INFERENCE}/ModelInfer", InferRequest.SerializeToString, InferResponse.FromString
        )
        return method(request, timeout=timeout_s)


def call(server: Running, code: int, argument: float, **options: Any) -> grpc.StatusCode:  # those of `answer_to`
    try:
        answer_to(server, code, argument, **options)
    except grpc.RpcError as error:
        code_of: grpc.StatusCode = error.code()
        return code_of
    return grpc.StatusCode.OK


def turn(server: Running, place: int, priority: int) -> float:
    """Ask by one protocol or the other which call this is to the model."""
    if place % 2:
        status, answer = ask(server, COUNT, 0, priority=priority)
        assert status == 200, answer
        return float(answer["outputs"][0]["data"][0])
    return float(np.frombuffer(answer_to(server, COUNT, 0, priority=priority).raw_output_contents[0], np.float32)[0])


def figure(server: Running, name: str, labels: str = "") -> float:
    text = server.ask("GET", "/metrics")[1].decode()
    return sum(map(float, re.findall(rf"^{name}{{.*{labels}.*}} (\S+)$", text, re.MULTILINE)))


def calls(server: Running) -> float:
    """Give how many calls the engine has answered."""
    return figure(server, "ferryman_infer_seconds_count")


def occupied(server: Running, pool: ThreadPoolExecutor, seconds: float = BUSY_S) -> "Future[tuple[int, Any]]":
    """Keep the only instance busy; returns when it is, and nothing else waits."""
    first = pool.submit(ask, server, SLEEP, seconds)
    wait_until(lambda: figure(server, "ferryman_in_flight") >= 1)
    return first


def settled(server: Running) -> bool:
    return figure(server, "ferryman_in_flight") == figure(server, "ferryman_waiting") == 0


def test_a_request_that_is_too_late_gets_504_and_never_reaches_the_engine(busy: Running) -> None:
    wait_until(lambda: settled(busy))
    with ThreadPoolExecutor(12) as pool:
        before = calls(busy)
        first = occupied(busy, pool)
        second = pool.submit(ask, busy, SLEEP, BUSY_S)  # whatever an instance takes beforehand, it has taken then
        wait_until(lambda: figure(busy, "ferryman_in_flight") + figure(busy, "ferryman_waiting") >= 2)
        late = [pool.submit(ask, busy, ANSWER, 1, timeout=100_000) for _ in range(8)]
        answers = [future.result(20) for future in late]
        assert not first.done() or not second.done(), "they were told before the engine was free"
        assert [status for status, _ in answers] == [504] * 8
        assert "in time" in answers[0][1]["error"]
        assert (first.result(20)[0], second.result(20)[0]) == (200, 200)
    wait_until(lambda: settled(busy))
    assert calls(busy) - before == 2
    assert figure(busy, "ferryman_requests_total", 'outcome="deadline",protocol="http"') == 8


def test_a_call_that_is_too_late_gets_deadline_exceeded_and_never_reaches_the_engine(busy: Running) -> None:
    wait_until(lambda: settled(busy))
    with ThreadPoolExecutor(12) as pool:
        before = calls(busy)
        first = occupied(busy, pool)
        second = pool.submit(ask, busy, SLEEP, BUSY_S)
        wait_until(lambda: figure(busy, "ferryman_in_flight") + figure(busy, "ferryman_waiting") >= 2)
        by_grpc = [pool.submit(call, busy, ANSWER, 1, timeout_s=0.15) for _ in range(4)]
        by_parameter = [pool.submit(call, busy, ANSWER, 1, timeout=100_000) for _ in range(4)]
        codes = [future.result(20) for future in (*by_grpc, *by_parameter)]
        assert codes == [grpc.StatusCode.DEADLINE_EXCEEDED] * 8
        assert (first.result(20)[0], second.result(20)[0]) == (200, 200)
    wait_until(lambda: settled(busy))
    assert calls(busy) - before == 2


def test_an_answer_that_takes_too_long_is_504_though_the_engine_has_it(busy: Running) -> None:
    wait_until(lambda: settled(busy))
    assert ask(busy, SLEEP, BUSY_S, timeout=100_000)[0] == 504
    assert call(busy, SLEEP, BUSY_S, timeout=100_000) is grpc.StatusCode.DEADLINE_EXCEEDED


def test_time_enough_is_no_deadline(busy: Running) -> None:
    wait_until(lambda: settled(busy))
    assert ask(busy, ANSWER, 1, timeout=20_000_000)[0] == 200
    assert call(busy, ANSWER, 1, timeout_s=20, timeout=20_000_000) is grpc.StatusCode.OK


@pytest.mark.parametrize("timeout", [-1, 10**12, "soon", 1.5])
def test_a_timeout_that_is_none_is_refused(busy: Running, timeout: Any) -> None:  # wrong on purpose
    status, answer = ask(busy, ANSWER, 1, timeout=timeout)
    assert status == 400
    assert "timeout" in answer["error"]


def test_where_requests_wait_the_more_urgent_ones_go_first(busy: Running) -> None:
    wait_until(lambda: settled(busy))
    with ThreadPoolExecutor(24) as pool:
        first = [occupied(busy, pool, 2.0), pool.submit(ask, busy, SLEEP, 2.0)]
        wait_until(lambda: figure(busy, "ferryman_in_flight") + figure(busy, "ferryman_waiting") >= 2)
        held = figure(busy, "ferryman_waiting")
        turns: list[tuple[int, Future[float]]] = []
        for place, priority in enumerate((LOW, NORMAL, HIGH) * 4, start=1):
            turns.append((priority, pool.submit(turn, busy, place, priority)))
            wait_until(lambda place=place: figure(busy, "ferryman_waiting") >= held + place)
        assert not first[1].done(), "the queue was being emptied while it was filled"
        went = sorted((asked.result(30), priority) for priority, asked in turns)
    assert [priority for _, priority in went] == [HIGH] * 4 + [NORMAL] * 4 + [LOW] * 4


def test_a_full_queue_refuses_at_once_over_both_protocols(busy: Running) -> None:
    wait_until(lambda: settled(busy))
    with ThreadPoolExecutor(40) as pool:
        begun = [occupied(busy, pool), *(pool.submit(ask, busy, SLEEP, BUSY_S / 10) for _ in range(30))]
        wait_until(lambda: figure(busy, "ferryman_waiting") >= 24)
        status, answer, headers = busy.ask("POST", "/v2/models/busy/infer", json.dumps({"inputs": []}).encode())
        assert (status, headers["retry-after"]) == (429, "1")
        assert "wait for model 'busy' already" in answer["error"]
        assert call(busy, ANSWER, 1) is grpc.StatusCode.RESOURCE_EXHAUSTED
        statuses = [future.result(30)[0] for future in begun]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 25


def test_both_protocols_name_the_same_mistakes_alike(server: Running) -> None:
    def code_of(request: Any) -> grpc.StatusCode:  # a message
        with grpc.insecure_channel(server.address) as channel:
            method: Any = channel.unary_unary(f"/{INFERENCE}/ModelInfer", InferRequest.SerializeToString, bytes)
            with pytest.raises(grpc.RpcError) as refused:
                method(request, timeout=20)
            code: grpc.StatusCode = refused.value.code()
            return code

    tensor = {"name": "values", "datatype": "FP64", "shape": [1, 3], "data": [1, 2, 3]}
    wrong = InferRequest(model_name="affine", raw_input_contents=[b"\0" * 24])
    wrong.inputs.add(name="values", datatype="FP64", shape=[1, 3])
    assert server.infer("affine", {"inputs": [tensor]})[0] == 400
    assert code_of(wrong) is grpc.StatusCode.INVALID_ARGUMENT
    assert server.infer("nobody", {"inputs": [tensor]})[0] == 404
    assert code_of(InferRequest(model_name="nobody")) is grpc.StatusCode.NOT_FOUND
    assert server.infer("affine/versions/none", {"inputs": [tensor]})[0] == 404
    assert code_of(InferRequest(model_name="affine", model_version="none")) is grpc.StatusCode.NOT_FOUND
    assert server.ask("POST", "/v2/models/affine/infer", b" " * 300_000)[0] == 413
    large = InferRequest(model_name="affine", raw_input_contents=[b"\0" * 300_000])
    assert code_of(large) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.ask("POST", "/v2/repository/models/affine/load", b"{}")[0] == 403
