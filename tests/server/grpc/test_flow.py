"""Windows in both directions, limits, times, and ends."""

import contextlib
import threading
from struct import pack
from typing import Any

import grpc
import numpy as np
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded

from ferryman.core.errors import NotFound, Unauthorized
from ferryman.server.data.ask import Gone
from ferryman.server.data.grpc import frames
from ferryman.server.data.grpc.frames import frame
from ferryman.server.data.grpc.messages import INFERENCE, InferRequest, InferResponse
from ferryman.server.data.grpc.settings import GrpcSettings
from ferryman.server.data.http.intake import Intake
from tests.server.grpc.raw import HELLO, INFER, LIVE, RawClient, block, call, data, headers, message
from tests.server.grpc.serving import Running, asks_in, serving, wait_for


@pytest.mark.parametrize("size", [1, 10, 100, 1000])
def test_answers_come_in_the_pieces_that_the_client_allows(server: Running, size: int) -> None:
    hello = frames.PREFACE + frames.settings_frame({frames.INITIAL_WINDOW_SIZE: size})
    with RawClient(server.port, hello) as client:
        client.send(call(1, INFER, message(rows=2)), call(3, INFER, message()))
        bodies = {1: b"", 3: b""}
        ended = 0
        for got in client.frames():
            if got.kind == frames.DATA:
                assert len(got.payload) <= size
                bodies[got.stream] += got.payload
                client.send(frames.window_frame(got.stream, len(got.payload)))
            ended += bool(got.flags & frames.END_STREAM and got.stream)
            if ended == 2:
                break
    for body, rows in ((bodies[1], 2), (bodies[3], 1)):
        assert InferResponse.FromString(body[5:]).raw_output_contents[0] == pack("<f", 2.0) * 30 * rows


def test_windows_may_shrink_below_nothing_and_grow_again(server: Running) -> None:
    with RawClient(server.port, frames.PREFACE + frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 20})) as client:
        client.send(call(1, INFER, message()))
        first = client.next(frames.DATA).payload
        client.send(frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 5}), frames.window_frame(1, 15))
        client.send(frame(frames.PING, 0, 0, b"anything"))
        assert client.next(frames.DATA, frames.PING).kind == frames.PING  # -15 + 15: still nothing
        client.send(frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 10_000}))
        _, rest = client.answer(1)
        assert len(first) == 20
        assert InferResponse.FromString((first + rest)[5:]).raw_output_contents[0] == pack("<f", 2.0) * 30


def test_the_connection_s_window_is_shared_by_its_calls(server: Running) -> None:
    rows = 600  # two answers of 74 kB, and 65,535 bytes for both
    hello = frames.PREFACE + frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 2**31 - 1})
    with RawClient(server.port, hello) as client:
        for stream in (1, 3):
            client.send(headers(stream), *pieces(stream, message(rows=rows)))
        got = 0
        while got < frames.FIRST_WINDOW:
            got += len(client.next(frames.DATA).payload)
        assert got == frames.FIRST_WINDOW
        client.send(frame(frames.PING, 0, 0, b"anything"))
        assert client.next(frames.DATA, frames.PING).kind == frames.PING
        client.send(frames.window_frame(0, 1_000_000))
        ends = {client.next(frames.HEADERS).stream for _ in range(2)}
        assert ends == {1, 3}


def test_a_second_implementation_understands_every_frame(server: Running) -> None:
    rows = np.random.default_rng(1).random((3000, 30), np.float32)
    request = InferRequest(model_name="double", raw_input_contents=[rows.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=rows.shape)
    payload = request.SerializeToString()
    body = pack(">BL", 0, len(payload)) + payload
    peer = H2Connection(H2Configuration(client_side=True))
    peer.initiate_connection()
    fields = [(":method", "POST"), (":scheme", "http"), (":path", INFER), (":authority", "x"), ("te", "trailers")]
    with RawClient(server.port, b"") as client:
        peer.send_headers(1, [*fields, ("content-type", "application/grpc")])
        client.send(peer.data_to_send())
        answer, has_ended = b"", False
        while not has_ended:
            room = min(peer.local_flow_control_window(1), peer.max_outbound_frame_size, len(body))
            if room:
                peer.send_data(1, body[:room], end_stream=room == len(body))
                body = body[room:]
            client.send(peer.data_to_send())
            if body and room:
                continue
            for event in peer.receive_data(client.socket.recv(65536)):
                if isinstance(event, DataReceived):
                    answer += event.data
                    peer.acknowledge_received_data(event.flow_controlled_length, 1)
                has_ended |= isinstance(event, StreamEnded)
    np.testing.assert_array_equal(
        np.frombuffer(InferResponse.FromString(answer[5:]).raw_output_contents[0], "<f4").reshape(-1, 30), 2 * rows
    )


def test_more_than_the_window_ends_the_call_or_the_connection() -> None:
    settings = GrpcSettings(stream_window_bytes=70_000, connection_window_bytes=100_000, max_frame_bytes=60_000)
    with serving(settings) as server:
        with RawClient(server.port) as client:  # a stream's: its message is 1 MB, but nobody reads so fast
            client.send(headers(1), data(1, b"\0\0\x10\0\0" + b"x" * 34_000, 0))
            assert client.next(frames.WINDOW_UPDATE, stream=0)
        with RawClient(server.port) as client:
            client.send(call(1, INFER, b""), headers(3), *[data(3, b"\0" * 50_000, 0)] * 3)
            assert client.next(frames.HEADERS, frames.RST_STREAM, frames.GOAWAY).kind == frames.HEADERS


def test_streams_over_the_limit_are_refused() -> None:
    with serving(GrpcSettings(max_streams=2)) as server, RawClient(server.port) as client:
        client.send(headers(1), headers(3), headers(5))
        assert client.next(frames.RST_STREAM).code == frames.REFUSED_STREAM
        client.send(data(1, message()))
        assert client.answer(1)[0]["grpc-status"] == "0"
        client.send(call(7))
        assert client.answer(7)[0]["grpc-status"] == "0"


def test_bytes_in_work_are_bounded_and_given_back() -> None:
    intake = Intake(limit_bytes=900, total_bytes=900)
    with serving(GrpcSettings(intake=intake)) as server, RawClient(server.port) as client:
        client.send(headers(1), data(1, b"\0\0\0\x03\x20" + b"x" * 790, 0), call(3, INFER, message()))
        trailers = client.answer(3)[0]
        assert (trailers["grpc-status"], trailers["retry-after"]) == ("8", "1")
        assert "limit of 900" in trailers["grpc-message"]
        client.send(frames.reset_frame(1, frames.CANCEL), call(5, INFER, message()))
        assert client.answer(5)[0]["grpc-status"] == "0"
        client.send(call(7, INFER, message(model="nowhere")))
        assert client.answer(7)[0]["grpc-status"] == "5"
        assert intake.held_bytes == 0


def test_what_is_only_declared_keeps_nobody_out() -> None:
    intake = Intake(limit_bytes=1 << 20, total_bytes=2 << 20)
    declared = pack(">BL", 0, 1 << 20)
    with serving(GrpcSettings(intake=intake, max_message_bytes=1 << 20)) as server, RawClient(server.port) as client:
        client.send(b"".join(headers(1 + 2 * n) + data(1 + 2 * n, declared, 0) for n in range(100)))
        client.send(call(201, INFER, message()))
        assert client.answer(201)[0]["grpc-status"] == "0"
        assert server.do(lambda: intake.held_bytes) == 0


def test_callers_without_a_credential_are_refused_before_their_message_comes() -> None:
    def known(header: Any, *_: Any) -> None:
        if header(b"authorization") is None:
            raise Unauthorized("who are you?")

    with serving(known=known) as server, RawClient(server.port) as client:
        for number, path in enumerate(("ModelInfer", "ModelStreamInfer", "ModelMetadata", "RepositoryModelLoad")):
            client.send(headers(1 + 2 * number, f"/{INFERENCE}/{path}"))
            assert client.answer(1 + 2 * number)[0]["grpc-status"] == "16"
        client.send(data(1, message(), 0), call(9, LIVE))
        assert client.answer(9)[0]["grpc-status"] == "0"  # health needs no key
        client.send(frame(frames.HEADERS, frames.END_HEADERS, 11, block(INFER, ("authorization", "Bearer a"))))
        client.send(data(11, message()))
        assert client.answer(11)[0]["grpc-status"] == "0"


def test_a_call_that_is_given_up_is_told_to_observers_under_the_version_that_was_asked() -> None:
    heard: list[tuple[str, Any]] = []
    with serving() as server, RawClient(server.port) as client:
        server.do(lambda: server.dataplane.observers.append(lambda *said: heard.append((said[2], type(said[4])))))
        client.send(call(1, INFER, message(model="hang")))
        wait_for(lambda: server.do(lambda: bool(server.hanging.kept)))
        server.do(lambda: server.dataplane.announce("hang", "2"))
        server.do(lambda: server.dataplane.activate("hang", "2"))
        client.send(frames.reset_frame(1, frames.CANCEL))
        wait_for(lambda: server.do(lambda: list(server.over)))
        assert heard == [("1", Gone)]
        assert server.versions_over == ["1"]


def test_each_request_of_a_stream_is_told_of() -> None:
    with serving() as server, RawClient(server.port) as client:
        client.send(headers(1, f"/{INFERENCE}/ModelStreamInfer"))
        client.send(data(1, message() + message(model="nowhere") + message(model="hang"), 0))
        wait_for(lambda: server.do(lambda: bool(server.hanging.kept)) and server.do(lambda: len(server.answered) == 2))
        client.send(frames.reset_frame(1, frames.CANCEL))
        wait_for(lambda: server.do(lambda: len(server.answered) == 3))
        told = [(one.model, one.version, one.status, type(one.error)) for one in server.answered]
    assert sorted(told) == [("double", "1", 0, type(None)), ("hang", "1", 1, Gone), ("nowhere", "", 5, NotFound)]


def test_an_upload_is_refused_while_it_comes(server: Running) -> None:
    with RawClient(server.port) as client:
        client.send(headers(1), data(1, b"\0\x7f\0\0\0", 0))
        assert client.answer(1)[0]["grpc-status"] == "8"
        assert client.next(frames.RST_STREAM).code == frames.NO_ERROR
        client.send(data(1, b"x" * 10_000, 0), data(1, b""), call(3))  # was on its way
        assert client.answer(3)[0]["grpc-status"] == "0"


SHORT = GrpcSettings(
    header_s=0.2, receive_s=0.3, send_s=0.3, ping_after_s=0.2, ping_timeout_s=0.2, idle_s=0.3, sweep_s=0.05
)


def test_half_a_preface_and_half_a_block_are_not_waited_for() -> None:
    with serving(SHORT) as server:
        for sent in (b"", frames.PREFACE[:10], frames.PREFACE, HELLO + headers(1, flags=0)):
            with RawClient(server.port, sent) as client:
                assert client.next(frames.GOAWAY).code == frames.ENHANCE_YOUR_CALM


def test_200_slow_clients_hurt_nobody_and_do_not_stay() -> None:
    with serving(GrpcSettings(header_s=0.5, sweep_s=0.05)) as server:
        slow = [RawClient(server.port, frames.PREFACE[:5]) for _ in range(200)]
        with RawClient(server.port) as client:
            client.send(call(1))
            assert client.answer(1)[0]["grpc-status"] == "0"
            wait_for(lambda: server.do(lambda: len(server.connections.members)) == 1)
        for one in slow:
            one.socket.close()


def test_a_message_that_does_not_come_is_given_up() -> None:
    with serving(GrpcSettings(receive_s=0.2, sweep_s=0.05)) as server, RawClient(server.port) as client:
        client.send(headers(1), data(1, b"\0\0\0\0\x10abc", 0))
        trailers = client.answer(1)[0]
        assert (trailers["grpc-status"], "did not come" in trailers["grpc-message"]) == ("4", True)


def test_a_client_that_opens_no_window_is_given_up() -> None:
    hello = frames.PREFACE + frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 0})
    with serving(GrpcSettings(send_s=0.2, sweep_s=0.05)) as server, RawClient(server.port, hello) as client:
        client.send(call(1, INFER, message()))
        assert client.next(frames.RST_STREAM).code == frames.CANCEL


def test_a_client_that_does_not_read_is_cut() -> None:
    hello = frames.PREFACE + frames.settings_frame({4: 2**31 - 1}) + frames.window_frame(0, 2**31 - 1 - 65535)
    with serving(GrpcSettings(send_s=0.3, sweep_s=0.05)) as server:
        with RawClient(server.port, hello) as client:
            with contextlib.suppress(OSError):  # cut while it still sends
                for stream in range(1, 41, 2):
                    client.send(headers(stream), *pieces(stream, message(rows=10_000)))
            wait_for(lambda: server.do(lambda: not server.connections.members))
        with RawClient(server.port) as client:
            client.send(call(1))
            assert client.answer(1)[0]["grpc-status"] == "0"


def test_a_silent_client_is_asked_for_a_sign_and_cut_without_one() -> None:
    settings = GrpcSettings(ping_after_s=0.1, ping_timeout_s=0.2, sweep_s=0.05)
    with serving(settings) as server, RawClient(server.port) as client:
        for _ in range(4):  # alive
            ping = client.next(frames.PING)
            client.send(frame(frames.PING, frames.ACK, 0, ping.payload))
        assert client.next(frames.GOAWAY).code == frames.NO_ERROR
        assert not list(client.frames())


def test_an_idle_connection_is_told_to_go() -> None:
    with serving(GrpcSettings(idle_s=0.1, sweep_s=0.05)) as server, RawClient(server.port) as client:
        assert client.next(frames.GOAWAY).code == frames.NO_ERROR
        client.send(frame(frames.PING, frames.ACK, 0, client.next(frames.PING).payload))
        assert list(client.frames())[-1].kind == frames.GOAWAY


def test_draining_answers_what_runs_and_refuses_what_comes_after() -> None:
    with serving() as server, RawClient(server.port) as client:
        client.send(call(1, INFER, message(model="hang")))
        wait_for(lambda: server.do(lambda: bool(server.hanging.kept)))
        server.do(server.connections.drain)
        assert int.from_bytes(client.next(frames.GOAWAY).payload[:4], "big") == 2**31 - 1
        client.send(call(3), frame(frames.PING, frames.ACK, 0, client.next(frames.PING).payload))
        assert client.answer(3)[0]["grpc-status"] == "0"  # was on its way
        assert int.from_bytes(client.next(frames.GOAWAY).payload[:4], "big") == 3
        client.send(call(5))
        assert client.next(frames.RST_STREAM).code == frames.REFUSED_STREAM
        server.do(server.hanging.let_go)
        assert client.answer(1)[0]["grpc-status"] == "0"
        assert [got.kind for got in client.frames()] == [frames.GOAWAY]
        wait_for(lambda: server.do(lambda: not server.connections.members))


def test_who_still_sends_when_the_connection_ends_reads_its_last_words_and_no_reset() -> None:
    with serving() as server, RawClient(server.port) as client:
        client.send(call(1))
        assert client.answer(1)[0]["grpc-status"] == "0"
        (connection,) = server.connections.members
        server.do(server.connections.drain)
        client.send(frame(frames.PING, frames.ACK, 0, client.next(frames.PING).payload))
        wait_for(lambda: connection.is_closed)
        for stream in (3, 5, 7):
            client.send(call(stream))  # on a socket that is closed this fails, and takes what waits there with it
        last = b""
        while more := client.socket.recv(65536):
            last += more
        assert last.endswith(frames.goaway_frame(1, frames.NO_ERROR))


def test_no_call_is_lost_when_the_connection_drains_under_load() -> None:
    with serving() as server, grpc.insecure_channel(server.address) as channel:
        infer: Any = channel.unary_unary(f"/{INFERENCE}/ModelInfer")  # its stubs know no calls of plain bytes
        body = message()[5:]
        failures: list[Any] = []
        sent = [0]
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set():
                sent[0] += 1
                try:
                    infer(body, timeout=10)
                except grpc.RpcError as error:
                    failures.append(error)

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            before = sent[0]
            wait_for(lambda before=before: sent[0] > before + 20)  # type: ignore[misc]
            server.do(lambda: drain_each(server))
        stop.set()
        for thread in threads:
            thread.join(10)
        assert not failures
        assert sent[0] > 200


def test_an_idle_stream_does_not_hold_up_the_end() -> None:
    with serving(GrpcSettings(sweep_s=0.05)) as server, RawClient(server.port) as client:
        client.send(headers(1, f"/{INFERENCE}/ModelStreamInfer"), data(1, message(), 0))
        assert client.next(frames.DATA)
        server.do(server.connections.drain)
        client.send(frame(frames.PING, frames.ACK, 0, client.next(frames.PING).payload))
        assert client.answer(1)[0]["grpc-status"] == "14"
        wait_for(lambda: server.do(lambda: not server.connections.members))


def test_a_stream_takes_no_more_than_it_may_have_in_work() -> None:
    settings = GrpcSettings(stream_window_bytes=65_535)
    hello = HELLO + frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 10**6}) + frames.window_frame(0, 10**6)
    with serving(settings) as server, RawClient(server.port, hello) as client:
        client.send(headers(1, f"/{INFERENCE}/ModelStreamInfer"))
        body = message(model="hang")
        count = 65_535 // len(body)
        for _ in range(count):
            client.send(data(1, body, 0))
        wait_for(lambda: server.do(lambda: asks_in(server.dataplane)) >= 64)
        assert server.do(lambda: asks_in(server.dataplane)) == 64
        client.send(frame(frames.PING, 0, 0, b"anything"))
        assert client.next(frames.WINDOW_UPDATE).stream == 0  # the connection's, once
        assert client.next(frames.WINDOW_UPDATE, frames.PING).kind == frames.PING  # the call's stays shut
        done = threading.Event()

        def answer() -> None:
            while not done.is_set():
                server.do(server.hanging.let_go)

        thread = threading.Thread(target=answer)
        thread.start()
        client.send(data(1, b""))
        trailers, answered = client.answer(1)
        done.set()
        thread.join(10)
        assert trailers["grpc-status"] == "0"
        assert answered.count(b"\n\x01y\x12\x04FP32") == count


def drain_each(server: Running) -> None:
    for connection in tuple(server.connections.members):
        connection.drain()


def pieces(stream: int, body: bytes) -> list[bytes]:
    starts = range(0, len(body), 100_000)
    return [
        data(stream, body[start : start + 100_000], frames.END_STREAM if start + 100_000 >= len(body) else 0)
        for start in starts
    ]
