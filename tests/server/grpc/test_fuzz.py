"""Thousands of malformed inputs: the server answers or refuses, others never notice."""

import asyncio
import contextlib
import gzip
import logging
import random
from struct import pack
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferryman.core.errors import InputError
from ferryman.server.data.grpc import frames
from ferryman.server.data.grpc.inflate import inflate
from ferryman.server.data.grpc.settings import GrpcSettings
from ferryman.server.data.grpc.tensors import decode_request, parse_request
from ferryman.server.data.grpc.wire import split_field
from ferryman.server.data.http.intake import Intake
from tests.server.grpc.raw import HELLO, INFER, LIVE, RawClient, call, data, headers, message
from tests.server.grpc.serving import NumpyInstance, Running, asks_in, fill

STREAM = INFER.replace("ModelInfer", "ModelStreamInfer")


class Wire:
    """Be a transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.is_closed = False

    def write(self, payload: bytes) -> None:
        self.written += payload

    def writelines(self, parts: list[bytes]) -> None:
        self.written += b"".join(parts)

    def close(self) -> None:
        self.is_closed = True

    abort = write_eof = close

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.is_closed

    def get_extra_info(self, name: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


def spoil(rng: random.Random, sent: bytes) -> bytes:
    """Change, drop, repeat or add some bytes."""
    spoiled = bytearray(sent)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(spoiled) + 1)
        what = rng.randrange(5)
        if what == 0 and at < len(spoiled):
            spoiled[at] = rng.randrange(256)
        elif what == 1 and at < len(spoiled):
            spoiled[at] ^= 1 << rng.randrange(8)
        elif what == 2:
            del spoiled[at : at + rng.randint(1, 20)]
        elif what == 3:
            spoiled[at:at] = rng.randbytes(rng.randint(1, 20))
        else:
            spoiled += spoiled[at : at + 60]
    return bytes(spoiled)


def conversations(rng: random.Random) -> bytes:
    """Give frames that make sense, in an order that may not."""
    body = message()
    packed = gzip.compress(body[5:])
    makes = (
        lambda stream: call(stream),
        lambda stream: call(stream, INFER, body),
        lambda stream: headers(stream, INFER) + data(stream, body[:9], 0) + data(stream, body[9:]),
        lambda stream: call(stream, INFER, pack(">BL", 1, len(packed)) + packed),
        lambda stream: call(stream, STREAM, body * 3),
        lambda stream: headers(stream, STREAM) + data(stream, body, 0),
        lambda stream: frames.reset_frame(stream, 8),
        lambda stream: frames.window_frame(rng.choice((0, stream)), rng.randrange(2**31)),
        lambda stream: frames.settings_frame({rng.randrange(8): rng.choice((0, 1, 16384, 2**31 - 1, 10))}),
        lambda stream: frames.frame(rng.randrange(12), rng.randrange(256), stream, rng.randbytes(rng.randrange(40))),
        lambda stream: frames.goaway_frame(stream, 0),
    )
    return b"".join(rng.choice(makes)(rng.choice((1, 3, 5, 7, 9, 11))) for _ in range(rng.randint(1, 8)))


def test_10_000_broken_conversations_leave_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    intake = Intake(limit_bytes=1 << 25, total_bytes=1 << 28)
    failures: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        running = Running(asyncio.get_running_loop())
        fill(running, GrpcSettings(intake=intake), SimpleNamespace(admit=lambda *_: None, known=lambda *_: None))
        rng = random.Random(7)
        for _ in range(10_000):
            wire, connection = Wire(), running.connections()
            connection.connection_made(cast(Any, wire))  # a stand-in for a socket's transport
            sent = HELLO + conversations(rng)
            sent = sent if rng.random() < 0.3 else HELLO + spoil(rng, sent[len(HELLO) :])
            for part in (sent,) if rng.random() < 0.5 else (sent[:50], sent[50:60], sent[60:]):
                connection.data_received(part)
            for _ in range(3):
                await asyncio.sleep(0)
            connection.connection_lost(None)
            assert not connection.calls
        assert not running.connections.members
        for _ in range(20):  # turns of the loop, for what the last conversation asked
            await asyncio.sleep(0)
        assert asks_in(running.dataplane) == 0
        running.service.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert intake.held_bytes == 0
    assert not failures
    assert not caplog.records  # nothing that was not foreseen


def test_broken_bytes_from_many_sockets_do_not_disturb_a_call(server: Running) -> None:
    rng = random.Random(8)
    with RawClient(server.port) as well:
        for number in range(300):
            with RawClient(server.port, b"") as client:
                sent = spoil(rng, HELLO + conversations(rng))
                client.socket.sendall(sent)
            well.send(call(1 + 2 * number, LIVE))
            assert well.answer(1 + 2 * number)[0]["grpc-status"] == "0"


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_an_input_error(payload: bytes) -> None:
    for sent in (payload, message()[5:-3] + payload, payload + message()[5:]):
        with contextlib.suppress(InputError):
            decode_request(*parse_request(sent))


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_taking_a_field_out_loses_no_byte(payload: bytes) -> None:
    request = message()[5:]
    kept, taken = split_field(request, 7)
    assert len(taken) == 1
    assert len(taken[0]) == 120
    assert kept + b"\x3a\x78" + bytes(taken[0]) == request
    with contextlib.suppress(InputError):
        split_field(payload, 7)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 200))
def test_broken_gzip_is_an_input_error(payload: bytes, cut: int) -> None:
    assert inflate(gzip.compress(payload), 1000) == payload
    whole = gzip.compress(payload)
    for sent in (whole[: min(cut, len(whole) - 1)], payload + b"!", whole + b"!"):
        with pytest.raises(InputError):
            inflate(sent, 1000)


def test_an_instance_that_answers_nonsense_ends_calls_with_an_incident(server: Running) -> None:
    assert isinstance(server.doubling, NumpyInstance)
    with RawClient(server.port) as client:
        client.send(call(1, INFER, message(model="absurd")))
        assert client.answer(1)[0]["grpc-status"] == "13"
