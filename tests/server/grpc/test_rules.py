"""The rules of HTTP/2, kept against clients that break them."""

from struct import pack

import pytest

from ferryman.server.data.grpc import frames
from ferryman.server.data.grpc.frames import frame
from tests.server.grpc.raw import HELLO, INFER, LIVE, RawClient, block, call, data, headers, message
from tests.server.grpc.serving import Running

UPDATE, END, EMPTY = frames.WINDOW_UPDATE, frames.END_HEADERS, b"\0\0\0\0\0"
OPEN = headers(1)


def window(stream: int, more: int) -> bytes:
    return frames.window_frame(stream, more)


CONNECTION_FAULTS = {
    "the first frame is not SETTINGS": (frames.PREFACE + frame(frames.PING, 0, 0, b"12345678"), 1),
    "a SETTINGS frame names a stream": (HELLO + frame(frames.SETTINGS, 0, 1), 1),
    "a SETTINGS frame of 5 bytes": (HELLO + frame(frames.SETTINGS, 0, 0, b"12345"), 6),
    "a SETTINGS acknowledgement with a payload": (HELLO + frame(frames.SETTINGS, 1, 0, b"123456"), 6),
    "push is neither on nor off": (HELLO + frames.settings_frame({2: 2}), 1),
    "a window over the limit is set": (HELLO + frames.settings_frame({4: 2**31}), 3),
    "frames under the least size are asked for": (HELLO + frames.settings_frame({5: 16383}), 1),
    "a frame over our size": (HELLO + pack(">HBBBL", 0x2000, 0, 0, 0, 1), 6),
    "a large frame that is not DATA": (HELLO + pack(">HBBBL", 0x100, 0, 1, 4, 1), 11),
    "a stream with an even number": (HELLO + headers(2), 1),
    "a stream without a number": (HELLO + headers(0), 1),
    "a stream's number goes back": (HELLO + call(5) + call(3), 5),
    "DATA on a stream that was never opened": (HELLO + data(1, b""), 1),
    "DATA on stream 0": (HELLO + data(0, b""), 1),
    "DATA after its stream's end": (HELLO + OPEN + data(1, message()) + data(1, b""), 5),
    "headers after their stream's end": (HELLO + OPEN + data(1, message()) + headers(1), 5),
    "padding longer than DATA": (HELLO + OPEN + frame(0, frames.PADDED, 1, b"\x05abc"), 1),
    "padding longer than HEADERS": (HELLO + frame(1, frames.PADDED | END, 1, b"\xff" + block()), 1),
    "an empty padded HEADERS": (HELLO + frame(1, frames.PADDED | END, 1, b""), 1),
    "a CONTINUATION of nothing": (HELLO + frame(frames.CONTINUATION, END, 1, block()), 1),
    "another frame within a block": (HELLO + headers(1, flags=0) + frame(frames.PING, 0, 0, b"12345678"), 1),
    "DATA within a block": (HELLO + headers(1, flags=0) + data(1, b""), 1),
    "a CONTINUATION of another stream": (HELLO + headers(1, flags=0) + frame(9, END, 3, b""), 1),
    "a block that is no HPACK": (HELLO + frame(1, END, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff"), 9),
    "an index that no table has": (HELLO + frame(1, END, 1, b"\xfe"), 9),
    "a header list over our limit": (HELLO + frame(1, END, 1, block() + b"\x00\x01a\x7f\x97\x7d" + b"b" * 16150), 11),
    "a PING of 7 bytes": (HELLO + frame(frames.PING, 0, 0, b"1234567"), 6),
    "a PING on a stream": (HELLO + frame(frames.PING, 0, 1, b"12345678"), 1),
    "a PRIORITY of 4 bytes": (HELLO + frame(frames.PRIORITY, 0, 1, b"1234"), 6),
    "a PRIORITY without a stream": (HELLO + frame(frames.PRIORITY, 0, 0, b"12345"), 1),
    "a reset of 3 bytes": (HELLO + OPEN + frame(frames.RST_STREAM, 0, 1, b"123"), 6),
    "a reset of a stream that was never opened": (HELLO + frames.reset_frame(1, 8), 1),
    "a push promise": (HELLO + frame(frames.PUSH_PROMISE, END, 1, b"\0\0\0\2"), 1),
    "a connection's window grows by nothing": (HELLO + window(0, 0), 1),
    "a connection's window grows over the limit": (HELLO + window(0, 2**31 - 1), 3),
    "a window update of 3 bytes": (HELLO + frame(UPDATE, 0, 0, b"123"), 6),
    "a window of a stream that was never opened": (HELLO + window(7, 1), 1),
    "a GOAWAY of 7 bytes": (HELLO + frame(frames.GOAWAY, 0, 0, b"1234567"), 1),
    "1,200 pings": (HELLO + frame(frames.PING, 0, 0, b"12345678") * 1200, 11),
    "1,200 settings": (HELLO + frames.settings_frame({}) * 1200, 11),
    "1,200 frames of no known kind": (HELLO + frame(77, 0, 0, b"") * 1200, 11),
    "1,200 empty DATA": (HELLO + OPEN + data(1, b"", 0) * 1200, 11),
    "1,200 DATA with only padding": (HELLO + OPEN + frame(0, frames.PADDED, 1, b"\x01\0") * 1200, 11),
    "1,200 priorities": (HELLO + frame(frames.PRIORITY, 0, 1, b"12345") * 1200, 11),
    "a block that never ends": (HELLO + headers(1, flags=0) + frame(9, 0, 1, b"\x00\x01a\x01b" * 200) * 40, 11),
    "1,200 empty CONTINUATIONs": (HELLO + headers(1, flags=0) + frame(9, 0, 1, b"") * 1200, 11),
    "1,200 calls that are given up": (
        HELLO + b"".join(headers(1 + 2 * n) + frames.reset_frame(1 + 2 * n, 8) for n in range(1200)),
        11,
    ),
}

STREAM_FAULTS = {
    "no path": (frame(1, END, 1, block("")), 1),
    "an upper-case name": (frame(1, END, 1, block(INFER, ("Abc", "d"))), 1),
    "a connection header": (frame(1, END, 1, block(INFER, ("connection", "close"))), 1),
    "another te": (frame(1, END, 1, block(INFER, ("te", "gzip"))), 1),
    "a pseudo header of answers": (frame(1, END, 1, block(INFER, (":status", "200"))), 1),
    "a late pseudo header": (frame(1, END, 1, block(INFER, (":path", "/"))), 1),
    "a control character": (frame(1, END, 1, block(INFER, ("a", "b\nc"))), 1),
    "a wrong content-length": (frame(1, END, 1, block(LIVE, ("content-length", "6"))) + data(1, EMPTY), 1),
    "a content-length that is no number": (frame(1, END, 1, block(LIVE, ("content-length", "+5"))), 1),
    "a window that grows by nothing": (OPEN + window(1, 0), 1),
    "a window that grows over the limit": (OPEN + window(1, 2**31 - 1), 3),
    "trailers that don't end the call": (OPEN + headers(1), 1),
}


@pytest.mark.parametrize("name", CONNECTION_FAULTS)
def test_a_connection_ends_with_a_code_at(server: Running, name: str) -> None:
    sent, code = CONNECTION_FAULTS[name]
    with RawClient(server.port, sent) as client:
        assert client.next(frames.GOAWAY).code == code
        assert not list(client.frames())  # closed
    assert_well(server)


@pytest.mark.parametrize("name", STREAM_FAULTS)
def test_a_call_is_reset_and_its_connection_lives_at(server: Running, name: str) -> None:
    sent, code = STREAM_FAULTS[name]
    with RawClient(server.port) as client:
        client.send(sent)
        assert client.next(frames.RST_STREAM, stream=1).code == code
        client.send(call(3))
        assert client.answer(3)[0]["grpc-status"] == "0"


def test_what_is_not_http2_is_closed_at_once(server: Running) -> None:
    with RawClient(server.port, b"GET / HTTP/1.1\r\n") as client:
        assert [frame.kind for frame in client.frames()][-1] == frames.GOAWAY


@pytest.mark.parametrize(("changes", "status"), [({"method": "GET"}, "405"), ({"content_type": "text/html"}, "415")])
def test_what_is_not_grpc_gets_an_http_status(server: Running, changes: dict[str, str], status: str) -> None:
    with RawClient(server.port) as client:
        client.send(headers(1, flags=END | frames.END_STREAM, **changes))
        assert client.answer(1)[0][":status"] == status


@pytest.mark.parametrize(
    ("payload", "status", "words"),
    [
        (b"", "3", "no message"),
        (EMPTY * 2, "3", "a second one"),
        (EMPTY[:3], "3", "in the middle"),
        (b"\0\0\0\0\x09abc", "3", "in the middle"),
        (b"\1\0\0\0\0", "3", "compression flag 1"),
        (b"\7\0\0\0\0", "3", "compression flag 7"),
        (b"\0\xff\xff\xff\xff", "8", "larger than"),
    ],
)
def test_a_body_that_is_not_one_message_is_refused(server: Running, payload: bytes, status: str, words: str) -> None:
    with RawClient(server.port) as client:
        client.send(call(1, LIVE, payload))
        trailers = client.answer(1)[0]
        assert (trailers["grpc-status"], words in trailers["grpc-message"]) == (status, True)


def test_an_encoding_that_is_not_offered_is_unimplemented(server: Running) -> None:
    with RawClient(server.port) as client:
        client.send(frame(1, END, 1, block(LIVE, ("grpc-encoding", "br"))), data(1, b"\1\0\0\0\1x"))
        assert client.answer(1)[0]["grpc-status"] == "12"


@pytest.mark.parametrize(
    ("timeout", "status"), [("10S", "0"), ("0n", "4"), ("1s", "4"), ("123456789S", "4"), ("", "4")]
)
def test_a_timeout_is_read_strictly(server: Running, timeout: str, status: str) -> None:
    with RawClient(server.port) as client:
        client.send(frame(1, END, 1, block(LIVE, ("grpc-timeout", timeout))), data(1, EMPTY))
        assert client.answer(1)[0]["grpc-status"] == status


def test_frames_may_come_in_any_pieces(server: Running) -> None:
    body = message()
    half = len(body) // 2
    padded = frame(0, frames.PADDED, 1, b"\x07" + body[:half] + b"\0" * 7)
    sent = (
        HELLO
        + frame(1, frames.PADDED | frames.HAS_PRIORITY, 1, b"\x03" + b"\0\0\0\0\x10" + block()[:20] + b"\0" * 3)
        + frame(9, 0, 1, block()[20:30])
        + frame(9, END, 1, block()[30:])
        + padded
        + data(1, body[half:])
    )
    for step in (1, 2, 7, 11, 1000):
        with RawClient(server.port, b"") as client:
            for start in range(0, len(sent), step):
                client.send(sent[start : start + step])
            assert client.answer(1)[0]["grpc-status"] == "0"


def test_a_body_may_end_with_trailers(server: Running) -> None:
    with RawClient(server.port) as client:
        client.send(headers(1, LIVE), data(1, EMPTY, 0), headers(1, flags=END | frames.END_STREAM))
        assert client.answer(1)[0]["grpc-status"] == "0"


def test_a_ping_is_answered_and_settings_are_acknowledged(server: Running) -> None:
    with RawClient(server.port, HELLO + frame(frames.PING, 0, 0, b"8 bytes!")) as client:
        assert client.next(frames.PING).payload == b"8 bytes!"
    with RawClient(server.port) as client:
        assert [client.next(frames.SETTINGS).flags for _ in range(2)] == [0, frames.ACK]


def test_a_client_may_reuse_and_change_its_table_of_headers(server: Running) -> None:
    import hpack

    encoder = hpack.Encoder()
    fields = [(":method", "POST"), (":scheme", "http"), (":path", LIVE), ("content-type", "application/grpc")]
    with RawClient(server.port) as client:
        for number in range(40):
            if number == 20:
                encoder.header_table_size = 200
            path = LIVE if number % 3 else f"/{number}"
            fields[2] = (":path", path)
            stream = 1 + 2 * number
            sent = encoder.encode([*fields, ("x-number", str(number // 5))])
            client.send(frame(1, END, stream, sent), data(stream, EMPTY))
            assert client.answer(stream)[0]["grpc-status"] == ("0" if path == LIVE else "12")


def assert_well(server: Running) -> None:
    with RawClient(server.port) as client:
        client.send(call(1))
        assert client.answer(1)[0]["grpc-status"] == "0"
