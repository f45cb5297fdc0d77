import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from wsproto.connection import Connection, ConnectionType
from wsproto.events import Ping, TextMessage

from ferryman.server.data.http.limits import Limits
from tests.server.http.serving import Serving, get, read_all, serving


@contextmanager
def talking(server: Serving, path: str = "/stream", origin: str | None = None) -> Iterator[ClientConnection]:
    host, port = server.address
    headers = {"Origin": origin} if origin else {}
    with connect(
        f"ws://{host}:{port}{path}", additional_headers=headers, compression=None, max_size=None, proxy=None
    ) as client:
        yield client


def test_messages_go_both_ways_in_their_order() -> None:
    with serving() as server, talking(server) as client:
        for count in range(100):
            client.send(f"message {count} €")
        assert [client.recv() for _ in range(100)] == [f"message {count} €" for count in range(100)]
        frame = os.urandom(3_000_000)
        client.send(frame)
        assert client.recv() == frame


def test_a_message_in_fragments_is_whole() -> None:
    with serving() as server, talking(server) as client:
        client.send(["in ", "", "three ", "parts"])
        assert client.recv() == "in three parts"
        client.send([b"\x00", b"\xff" * 1000])
        assert client.recv() == b"\x00" + b"\xff" * 1000


def test_both_sides_may_say_goodbye() -> None:
    with serving() as server:
        with talking(server) as client:
            client.send("close")
            with pytest.raises(ConnectionClosed) as closed:
                client.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "as you wish")
        with talking(server) as client:
            client.close(1000)
        server.until(lambda: [talk.closed for talk in server.application.streams] == [1, 1])
        server.until(lambda: not server.connections.members)


def test_a_message_over_the_limit_ends_the_stream_with_1009_and_is_not_kept() -> None:
    with serving(Limits(message_bytes=1000)) as server:
        for parts in (["a" * 1001], ["a" * 600, "a" * 600], ["€" * 400]):
            with talking(server) as client, pytest.raises(ConnectionClosed) as closed:
                client.send(parts)
                client.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009
        assert server.connections.intake.held_bytes == 0
        assert not any(talk.heard for talk in server.application.streams)


def test_messages_over_what_all_may_hold_end_the_stream_with_1013() -> None:
    with serving(Limits(body_bytes=1000), total_bytes=1000) as server:
        with talking(server) as client, pytest.raises(ConnectionClosed) as closed:
            client.send("a" * 2000)
            client.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1013


def test_a_drain_says_going_away_once_nothing_happens() -> None:
    with serving() as server, talking(server) as client:
        client.send("hello")
        assert client.recv() == "hello"
        drained = server.wait(server.listener.drain(5, idle_s=0.05))
        with pytest.raises(ConnectionClosed) as closed:
            client.recv()
        assert drained and closed.value.rcvd is not None and closed.value.rcvd.code == 1001


def test_a_failing_application_ends_the_stream_with_1011_and_tells_nothing() -> None:
    with serving() as server, talking(server) as client:
        client.send("raise")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1011, "internal error")


def test_a_paused_stream_reads_no_more_until_it_is_resumed() -> None:
    with serving() as server:
        link = _open(server)
        link.sendall(_frame("pause") + _frame("later"))
        server.until(lambda: bool(server.application.streams[0].heard))
        link.setblocking(False)
        frame = _frame("a" * 65536)
        with pytest.raises(BlockingIOError):
            while True:  # until both ends' buffers are full, for nobody reads
                link.send(frame)
        assert server.application.streams[0].heard == ["pause"]
        server.call(server.application.streams[0].stream.resume)
        server.until(lambda: "later" in server.application.streams[0].heard)
        link.close()


def test_a_client_that_does_not_read_is_cut_and_not_listened_to() -> None:
    with serving(Limits(send_s=0.3, slowest_bytes_per_s=1 << 30)) as server:
        link = _open(server)
        link.sendall(_frame("flood 300"))
        server.until(lambda: bool(server.connections.members))
        server.until(lambda: not server.connections.members)
        server.until(lambda: server.application.streams[0].closed == 1)
        link.close()


def test_a_silent_client_is_pinged_and_then_cut() -> None:
    with serving(Limits(ping_s=0.2, pong_s=0.2)) as server:
        link = _open(server)
        assert read_all(link) == b"\x89\x00"  # a ping, and the end
        server.until(lambda: server.application.streams[0].closed == 1)
        link.close()


def test_a_client_that_answers_pings_stays() -> None:
    with serving(Limits(ping_s=0.1, pong_s=0.2)) as server, talking(server) as client:
        with pytest.raises(TimeoutError):
            client.recv(timeout=1)
        client.send("still here")
        assert client.recv() == "still here"


def test_a_client_may_ping() -> None:
    with serving() as server:
        link = _open(server)
        link.sendall(_masked(Ping(b"abc")))
        assert link.recv(100) == b"\x8a\x03abc"
        link.close()


FRAMES = {
    "not masked": b"\x81\x05hello",
    "reserved bits": b"\xf1\x80\0\0\0\0",
    "an unknown kind": b"\x83\x80\0\0\0\0",
    "going on with nothing": b"\x80\x80\0\0\0\0",
    "a ping in fragments": b"\x09\x80\0\0\0\0",
    "text that is not UTF-8": b"\x81\x82\0\0\0\0\xff\xff",
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
def test_malformed_frames_end_the_stream(frame: bytes) -> None:
    with serving() as server:
        link = _open(server)
        link.sendall(frame)
        said = read_all(link)
        assert said[:1] == b"\x88" and int.from_bytes(said[2:4]) in (1002, 1007)
        server.until(lambda: server.application.streams[0].closed == 1)
        link.close()


def test_what_came_right_behind_the_request_is_heard() -> None:
    with serving() as server, server.connect() as link:
        link.sendall(_upgrade() + _frame("early"))
        said = b""
        while not said.endswith(b"early"):
            said += link.recv(65536)
        assert b"101 Switching Protocols" in said


def test_a_stream_is_refused_as_a_request_is() -> None:
    with serving() as server:
        for path, status in (("/deny", 401), ("/no-stream", 404)):
            with pytest.raises(InvalidStatus) as refused, talking(server, path):
                pass
            assert refused.value.response.status_code == status
        with server.connect() as link:
            link.sendall(_upgrade().replace(b"Version: 13", b"Version: 8"))
            assert read_all(link).startswith(b"HTTP/1.1 426 ")
        for good, bad in ((b"ZQ==", b""), (b"ZQ==", b"!!"), (b"Connection: Upgrade", b"Connection: close")):
            assert server.say(_upgrade().replace(good, bad)).startswith(b"HTTP/1.1 400 ")
        assert not server.application.streams


def test_a_page_of_another_origin_opens_no_stream() -> None:
    with serving() as server:
        with pytest.raises(InvalidStatus) as refused, talking(server, origin="https://elsewhere.example"):
            pass
        assert refused.value.response.status_code == 403
        host, port = server.address
        with talking(server, origin=f"http://{host}:{port}") as client:
            client.send("mine")
            assert client.recv() == "mine"


def test_other_upgrades_are_passed_over() -> None:
    with serving() as server:
        said = server.say(get("/echo", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk", "Connection: close, Upgrade"))
        assert said.startswith(b"HTTP/1.1 200 ")


def _upgrade() -> bytes:
    return (
        b"GET /stream HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )


def _open(server: Serving) -> socket.socket:
    """Open a stream, and leave its frames to the test."""
    link = server.connect()
    link.sendall(_upgrade())
    said = b""
    while not said.endswith(b"\r\n\r\n"):
        said += link.recv(1)
    assert b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in said  # the one in the protocol's text
    return link


def _frame(text: str) -> bytes:
    return _masked(TextMessage(text))


def _masked(event: TextMessage | Ping) -> bytes:
    """Give a client's bytes for an event."""
    return Connection(ConnectionType.CLIENT).send(event)
