import asyncio
import contextlib
import os
import socket
import stat
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

from ferryman.core.errors import UserError
from ferryman.server.data.http.limits import Limits
from ferryman.server.data.http.listener import open_socket, url_of
from tests.server.http.serving import get, post, read_all, read_answers, serving

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Shout(asyncio.Protocol):
    """Stand in for HTTP/2: give back what came, in capitals."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())  # type: ignore[attr-defined]  # a stream's transport


def test_the_first_bytes_choose_the_protocol_however_they_are_split() -> None:
    with serving(http2=Shout) as server:
        for cut in range(1, len(_PREFACE) + 1):
            with server.connect() as link:
                link.sendall(_PREFACE[:cut])
                link.sendall(_PREFACE[cut:] + b"frames")
                said = b""
                while len(said) < len(_PREFACE) + 6:
                    said += link.recv(100)
                assert said == _PREFACE + b"FRAMES"
        for method in ("POST", "PUT", "PATCH"):
            with server.connect() as link:
                request = post(b"abc").replace(b"POST", method.encode())
                link.sendall(request[:1])
                link.sendall(request[1:])
                assert read_answers(link, 1)[0][0] == 200


def test_http2_is_refused_where_it_is_not_served() -> None:
    with serving() as server:
        assert server.say(_PREFACE).startswith(b"HTTP/1.1 400 ")


def test_connections_of_both_protocols_count_towards_the_limit() -> None:
    with serving(Limits(connections=2), http2=Shout) as server:
        two, one = server.connect(), server.connect()
        two.sendall(_PREFACE)
        assert two.recv(100)
        one.sendall(get())
        assert read_answers(one, 1)
        assert server.call(lambda: server.listener.open_connections) == 2
        assert server.say(b"").startswith(b"HTTP/1.1 503 ")
        two.close()
        one.sendall(get())
        assert read_answers(one, 1)  # by now the server knows that the other has left
        assert server.say(get("/echo", "Connection: close")).startswith(b"HTTP/1.1 200 ")
        one.close()


def test_a_port_that_is_taken_is_the_users_to_change() -> None:
    with open_socket("127.0.0.1", 0) as taken:
        with pytest.raises(UserError, match=r"can't listen on 127\.0\.0\.1 port"):
            open_socket("127.0.0.1", taken.getsockname()[1])
        assert url_of(taken, is_tls=False) == f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(UserError, match="can't listen on"):
        open_socket("127.0.0.1", 70000)
    with pytest.raises(UserError, match=r"can't listen on 192\.0\.2\.1") as caught:
        open_socket("192.0.2.1", 0)
    assert caught.value.hint == "--host takes an address of this machine", "another port doesn't help"


def test_a_unix_socket_is_served_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    left_behind = socket.socket(socket.AF_UNIX)
    left_behind.bind(str(path))
    left_behind.close()
    with serving(host=f"unix:{path}") as server:
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(path))
            link.sendall(get())
            assert b'"peer": "unix"' in read_answers(link, 1)[0][1]
        with pytest.raises(UserError, match="can't listen on unix:"):
            open_socket(f"unix:{path}", 0)
        assert server.listener
        assert stat.S_ISSOCK(os.stat(path).st_mode)
    assert not path.exists()


def test_a_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("mine")
    with pytest.raises(UserError, match="can't listen on unix:"):
        open_socket(f"unix:{path}", 0)
    assert path.read_text() == "mine"


def test_a_unix_socket_whose_queue_is_full_does_not_hold_up_the_start(tmp_path: Path) -> None:
    path = str(tmp_path / "busy.sock")
    with contextlib.ExitStack() as waiting, socket.socket(socket.AF_UNIX) as busy:
        busy.bind(path)
        busy.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                link = waiting.enter_context(socket.socket(socket.AF_UNIX))
                link.setblocking(False)
                link.connect(path)
        with pytest.raises(UserError, match="can't listen on unix:"):
            open_socket(f"unix:{path}", 0)
        assert stat.S_ISSOCK(os.stat(path).st_mode), "it is another server's"


def test_a_drain_closes_idle_connections_and_waits_for_what_is_in_work() -> None:
    with serving() as server, server.connect() as idle, server.connect() as busy:
        idle.sendall(get())
        assert read_answers(idle, 1)
        busy.sendall(post(b"abc", "/later"))
        server.until(lambda: len(server.application.kept) == 1)
        draining = asyncio.run_coroutine_threadsafe(server.listener.drain(10, idle_s=0.05), server.loop)
        assert read_all(idle) == b""
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        assert not draining.done()
        server.let_go()
        assert b"connection: close" in read_all(busy)
        assert draining.result(10) is True


def test_a_drain_ends_at_its_deadline() -> None:
    with serving() as server, server.connect() as busy:
        busy.sendall(post(b"abc", "/later"))
        server.until(lambda: len(server.application.kept) == 1)
        started = time.monotonic()
        assert server.wait(server.listener.drain(0.3)) is False
        assert time.monotonic() - started < 2
        assert read_all(busy) == b""
        server.until(lambda: server.application.forgotten == 1)


def test_a_drain_serves_those_whom_the_kernel_had_accepted_already() -> None:
    with serving() as server:
        links: list[socket.socket] = []

        def arrive_while_the_loop_is_busy() -> None:
            for _ in range(20):
                link = socket.create_connection(server.address, timeout=10)
                link.sendall(get())
                links.append(link)
            server.listener.stop_accepting()

        server.call(arrive_while_the_loop_is_busy)
        assert [read_answers(link, 1)[0][0] for link in links] == [200] * 20
        for link in links:
            link.close()


def test_a_drain_waits_for_those_whom_the_kernel_had_accepted_already() -> None:
    with serving() as server, contextlib.ExitStack() as links:

        async def arrive_and_drain() -> int:
            for _ in range(20):
                link = links.enter_context(socket.create_connection(server.address, timeout=10))
                link.sendall(get())
            assert await server.listener.drain(10)
            return server.application.answered

        assert server.wait(arrive_and_drain()) == 20


def test_no_request_is_lost_when_a_server_drains_under_load() -> None:
    with serving() as server:
        sent = answered = 0
        lost: list[BaseException] = []
        stop = threading.Event()
        lock = threading.Lock()

        def keep_asking() -> None:
            nonlocal sent, answered
            client = HTTPConnection(*server.address, timeout=10)
            while not stop.is_set():
                try:
                    client.connect() if client.sock is None else None
                except ConnectionRefusedError:
                    break
                try:
                    client.request("POST", "/echo", b"a" * 500)
                    answer = client.getresponse()
                    answer.read()
                except OSError as error:
                    lost.append(error)
                    break
                with lock:
                    sent += 1
                    answered += answer.status == 200

        threads = [threading.Thread(target=keep_asking) for _ in range(8)]
        for thread in threads:
            thread.start()
        server.until(lambda: server.application.answered > 500)
        assert server.wait(server.listener.drain(10))
        stop.set()
        for thread in threads:
            thread.join(10)
        assert not lost and sent == answered == server.application.answered


def test_a_unix_socket_without_a_path_is_refused() -> None:
    with pytest.raises(UserError, match="unix: needs a path"):
        open_socket("unix:", 0)
