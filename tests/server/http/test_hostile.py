import contextlib
import http.client
import json
import socket
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferryman.server.data.http.chunks import Chunks
from ferryman.server.data.http.head import Refusal, parse_head
from ferryman.server.data.http.limits import Limits
from tests.server.http.serving import Serving, get, post, read_all, read_answers, serving

_POST = b"POST /echo HTTP/1.1\r\nHost: a\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"

SMUGGLED = {
    "length and chunks": _POST + b"Content-Length: 5\r\n" + _CHUNKED + b"\r\n0\r\n\r\n",
    "chunks and length": _POST + _CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": _POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "the same length twice": _POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    "a list of lengths": _POST + b"Content-Length: 5, 5\r\n\r\nabcde",
    "a signed length": _POST + b"Content-Length: +5\r\n\r\nabcde",
    "a negative length": _POST + b"Content-Length: -5\r\n\r\nabcde",
    "a hexadecimal length": _POST + b"Content-Length: 0x5\r\n\r\nabcde",
    "an endless length": _POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "an empty length": _POST + b"Content-Length:\r\n\r\nabcde",
    "chunks in HTTP/1.0": b"POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks that are not last": _POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunks behind a tab": _POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "chunks of another name": _POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks twice": _POST + _CHUNKED + _CHUNKED + b"\r\n0\r\n\r\n",
    "a folded header": b"GET /echo HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "space before the colon": b"GET /echo HTTP/1.1\r\nHost : a\r\n\r\n",
    "space before the first header": b"GET /echo HTTP/1.1\r\n Host: a\r\n\r\n",
    "NUL in a header": b"GET /echo HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
    "NUL in a name": b"GET /echo HTTP/1.1\r\nHost: a\r\nX\x00: a\r\n\r\n",
    "a bare carriage return": b"GET /echo HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "lines without carriage return": b"GET /echo HTTP/1.1\nHost: a\n\n",
    "one line without carriage return": b"GET /echo HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "no colon": b"GET /echo HTTP/1.1\r\nHost: a\r\nabc\r\n\r\n",
    "no name": b"GET /echo HTTP/1.1\r\nHost: a\r\n: abc\r\n\r\n",
    "no host": b"GET /echo HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two spaces": b"GET  /echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "a space in the target": b"GET /echo /b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a tab in the request line": b"GET\t/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "no version": b"GET /echo\r\nHost: a\r\n\r\n",
    "version 0.9": b"GET /echo HTTP/0.9\r\nHost: a\r\n\r\n",
    "version 2.0": b"GET /echo HTTP/2.0\r\nHost: a\r\n\r\n",
    "version 1.10": b"GET /echo HTTP/1.10\r\nHost: a\r\n\r\n",
    "another protocol": b"GET /echo RTSP/1.0\r\nHost: a\r\n\r\n",
    "a small method": b"get /echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "an unknown method": b"GRAB /echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment": b"GET /echo#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "no path": b"GET echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "a raw byte in the target": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "an encoded NUL in the target": b"GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n",
    "an encoded end of line in the target": b"GET /a%0d%0ab HTTP/1.1\r\nHost: a\r\n\r\n",
    "a path that is not UTF-8": b"GET /a%ff HTTP/1.1\r\nHost: a\r\n\r\n",
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a greeting of SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a bare end of line": b"\nGET /echo HTTP/1.1\r\nHost: a\r\n\r\n",
}  # fmt: skip

CHUNKS = {
    "no number": b"x\r\nabc\r\n0\r\n\r\n",
    "a signed number": b"+3\r\nabc\r\n0\r\n\r\n",
    "a negative number": b"-3\r\nabc\r\n0\r\n\r\n",
    "a prefixed number": b"0x3\r\nabc\r\n0\r\n\r\n",
    "an underscore": b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    "no number at all": b"\r\nabc\r\n0\r\n\r\n",
    "a leading space": b" 3\r\nabc\r\n0\r\n\r\n",
    "a trailing space": b"3 \r\nabc\r\n0\r\n\r\n",
    "a bare end of line": b"3\nabc\r\n0\r\n\r\n",
    "a chunk that is longer": b"3\r\nabcd\r\n0\r\n\r\n",
    "a chunk that is shorter": b"5\r\nabc\r\n0\r\n\r\n",
    "an endless number": b"f" * 17 + b"\r\n",
    "an endless extension": b"3;" + b"a" * 5000,
    "NUL in an extension": b"3;a=\x00\r\nabc\r\n0\r\n\r\n",
    "a trailer without colon": b"0\r\nabc\r\n\r\n",
    "endless trailers": b"0\r\n" + b"X: y\r\n" * 5000,
}


@pytest.mark.parametrize("payload", SMUGGLED.values(), ids=SMUGGLED.keys())
def test_what_two_servers_could_read_differently_is_refused_and_ends_the_connection(payload: bytes) -> None:
    with serving() as server:
        said = server.say(payload + get("/smuggled"))
        assert said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")), said[:100]
        assert said.count(b"HTTP/1.1 ") == 1 and b"connection: close" in said
        assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]
        assert server.application.admitted == 0


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
def test_malformed_chunks_are_refused_and_end_the_connection(chunks: bytes) -> None:
    head = _POST + b"Transfer-Encoding: chunked\r\n\r\n"
    with serving(Limits(header_s=2, receive_s=2)) as server:
        said = server.say(head + chunks + get("/smuggled"))
        assert said.startswith(b"HTTP/1.1 400 ") and said.count(b"HTTP/1.1 ") == 1
        assert (server.application.answered, server.application.forgotten) == (0, 1)


def test_limits_of_the_head_each_have_their_answer() -> None:
    with serving() as server:
        assert server.say(get("/" + "a" * 9000)).startswith(b"HTTP/1.1 414 ")
        assert server.say(get("/" + "a" * 90000)).startswith(b"HTTP/1.1 414 ")
        assert server.say(get("/", "X: " + "a" * 17000)).startswith(b"HTTP/1.1 431 ")
        assert server.say(get("/", *["X: y"] * 101)).startswith(b"HTTP/1.1 431 ")
        assert server.say(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000).startswith(b"HTTP/1.1 431 ")
        assert server.say(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.1 405 ")
        assert server.say(get("/", "Expect: wonders")).startswith(b"HTTP/1.1 417 ")
        assert server.say(post(b"a", "/", "Content-Encoding: br")).startswith(b"HTTP/1.1 415 ")
        assert server.say(get("/", *["X: y"] * 90, "Connection: close")).startswith(b"HTTP/1.1 200 ")


def test_a_body_over_the_limit_is_refused_by_what_it_declares_or_as_it_comes() -> None:
    with serving(Limits(body_bytes=1000)) as server:
        assert server.say(post(b"a" * 1000, "/echo", "Connection: close")).startswith(b"HTTP/1.1 200 ")
        declared = server.say(post(b"a" * 1001, "/echo", "Connection: close"))
        assert declared.startswith(b"HTTP/1.1 413 ") and b"larger than 1000 bytes" in declared
        head = _POST + b"Transfer-Encoding: chunked\r\n\r\n"
        assert server.say(head + b"64\r\n" + b"a" * 100 + b"\r\n385\r\n").startswith(b"HTTP/1.1 413 ")
        assert server.application.forgotten == 2


def test_bodies_over_what_all_may_hold_are_refused_before_they_are_read() -> None:
    with serving(Limits(body_bytes=1000), total_bytes=1500) as server, server.connect() as link:
        link.sendall(post(b"a" * 1000, "/later"))
        server.until(lambda: len(server.application.kept) == 1)
        said = server.say(post(b"a" * 600, "/echo", "Connection: close"))
        assert said.startswith(b"HTTP/1.1 429 ") and b"retry-after: 1" in said and b"hold 1000 bytes" in said
        assert server.say(post(b"a" * 500, "/echo", "Connection: close")).startswith(b"HTTP/1.1 200 ")
        chunked = _POST + b"Transfer-Encoding: chunked\r\n\r\n258\r\n" + b"a" * 600
        assert server.say(chunked).startswith(b"HTTP/1.1 429 ")
        server.let_go()
        assert read_answers(link, 1)[0][0] == 200


def test_what_is_only_declared_keeps_nobody_out() -> None:
    limits = Limits(body_bytes=1_000_000)
    with serving(limits, total_bytes=2_000_000) as server, contextlib.ExitStack() as opened:
        for number in range(20):
            link = opened.enter_context(server.connect())
            chunked = b"Transfer-Encoding: chunked\r\n\r\nf4240\r\n"
            link.sendall(_POST + (chunked if number % 2 else b"Content-Length: 1000000\r\n\r\n") + b"a")
        server.until(lambda: server.application.admitted == 20)
        assert server.call(lambda: server.connections.intake.held_bytes) < 1_000_000
        assert server.say(post(b"a" * 900_000, "/echo", "Connection: close")).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_comes_while_others_have_taken_its_room_is_refused_on_its_way() -> None:
    with serving(Limits(body_bytes=1_000_000), total_bytes=1_000_000) as server:
        with server.connect() as first, server.connect() as second:
            first.sendall(post(b"a" * 600_000)[:-1])
            server.until(lambda: server.connections.intake.held_bytes >= 600_000)
            second.sendall(post(b"a" * 600_000))
            assert read_all(second).startswith(b"HTTP/1.1 429 ")
            first.sendall(b"a")
            assert read_answers(first, 1)[0][0] == 200
        server.until(lambda: server.connections.intake.held_bytes == 0)


def test_what_does_not_come_in_time_is_cut() -> None:
    limits = Limits(header_s=0.3, receive_s=0.4, keep_alive_s=0.5, linger_s=0.3)
    with serving(limits) as server:
        links = {name: server.connect() for name in ("silent", "head", "body", "chunks", "large", "idle", "refused")}
        links["head"].sendall(b"GET /echo HTT")
        links["body"].sendall(post(b"abc")[:-1])
        links["chunks"].sendall(_POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab")
        links["large"].sendall(post(b"a" * 200_000)[:-1])
        links["idle"].sendall(get())
        links["refused"].sendall(post(b"a" * 60_000, "/deny")[:-1])
        started = time.monotonic()
        said = {name: read_all(link) for name, link in links.items()}
        assert time.monotonic() - started < 3
        assert {name: answer[9:12] for name, answer in said.items()} == {
            "silent": b"",
            "head": b"408",
            "body": b"408",
            "chunks": b"408",
            "large": b"408",
            "idle": b"200",
            "refused": b"401",
        }
        for link in links.values():
            link.close()
        assert server.application.forgotten == 3


def test_a_large_body_that_trickles_is_cut_before_its_time() -> None:
    limits = Limits(receive_s=30, slow_start_s=0.3, slowest_bytes_per_s=100_000)
    with serving(limits) as server, server.connect() as link:
        link.sendall(post(b"a" * 1_000_000)[:20_000])
        started = time.monotonic()
        assert read_all(link).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - started < limits.receive_s / 2


def test_a_client_that_never_reads_its_answer_is_cut() -> None:
    limits = Limits(send_s=0.3, slowest_bytes_per_s=1 << 30)
    with serving(limits) as server:
        links = []
        for _ in range(3):
            link = socket.socket()
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            link.connect(server.address)
            link.sendall(get("/large?20000000") + get())
            links.append(link)
        server.until(lambda: len(server.connections.members) == 3)
        server.until(lambda: not server.connections.members)
        for link in links:
            link.close()


def test_a_client_that_reads_slowly_but_steadily_gets_its_answer() -> None:
    with serving(Limits(send_s=0.5, slowest_bytes_per_s=1_000_000)) as server, server.connect() as link:
        link.sendall(get("/large?4000000"))
        size = 0
        while size < 4_000_000:
            size += len(link.recv(65536))
            time.sleep(0.012)  # the slowness itself: nothing is waited for


def test_slow_loris_clients_hurt_nobody_and_live_no_longer_than_their_limit() -> None:
    with serving(Limits(header_s=1.0, linger_s=0.5)) as server:
        started = time.monotonic()
        loris = [server.connect() for _ in range(200)]
        slowest = 0.0
        closed: set[int] = set()
        while len(closed) < 200:
            assert time.monotonic() - started < 60
            for place, link in enumerate(loris):
                if place not in closed and not _drip(link):
                    closed.add(place)
            began = time.monotonic()
            client = http.client.HTTPConnection(*server.address, timeout=5)
            client.request("POST", "/echo", b"abc")
            assert client.getresponse().status == 200
            client.close()
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 2
        server.until(lambda: not server.connections.members)
        assert server.connections.refused["408"] == 200
        for link in loris:
            link.close()


def _drip(link: socket.socket) -> bool:
    """Send one byte more of a head that never ends; gives whether the server still has the connection."""
    link.settimeout(0)
    try:
        link.send(b"G")
        link.recv(65536)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def test_too_many_connections_are_told_so_at_once() -> None:
    with serving(Limits(connections=3)) as server:
        links = [server.connect() for _ in range(3)]
        server.until(lambda: len(server.connections.members) == 3)
        said = server.say(b"")
        assert said.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in said
        links.pop().close()
        server.until(lambda: len(server.connections.members) == 2)
        assert server.say(get("/echo", "Connection: close")).startswith(b"HTTP/1.1 200 ")
        for link in links:
            link.close()


def test_many_tiny_chunks_take_no_more_memory_than_their_bytes() -> None:
    chunks = Chunks(1 << 20)
    chunks.feed(b"1\r\na\r\n" * 50_000)
    assert (chunks.size, len(chunks.body)) == (50_000, 50_000)


_WORDS = [
    b"GET", b"POST", b" ", b"/echo", b"/later-no", b" HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n", b"\r", b"Host: a", b":",
    b"Content-Length: 3", b"Content-Length: 70000", b"Transfer-Encoding: chunked", b"Connection: close", b"3", b"abc",
    b"0", b"\x00", b"\xff", b"Upgrade: websocket", b"Expect: 100-continue", b"Content-Encoding: gzip",
    b"PRI * HTTP/2.0",
]  # fmt: skip
_noise = st.lists(st.one_of(st.sampled_from(_WORDS), st.binary(max_size=20), st.just(b"\r\n\r\n")), max_size=40)


@given(parts=_noise)
@settings(max_examples=500, deadline=None)
def test_no_head_makes_the_parser_fail_in_another_way_than_refusing(parts: list[bytes]) -> None:
    with contextlib.suppress(Refusal):
        parse_head(b"".join(parts) + b"\r\n\r\n", Limits())


@given(received=st.lists(st.one_of(st.binary(max_size=30), st.sampled_from([b"3\r\nabc\r\n", b"0\r\n\r\n"]))))
@settings(max_examples=300, deadline=None)
def test_chunks_mean_the_same_however_they_are_split(received: list[bytes]) -> None:
    assert _decode([b"".join(received)]) == _decode(received) == _decode([bytes([b]) for b in b"".join(received)])


def _decode(pieces: list[bytes]) -> tuple[bytes, bytes] | str | None:
    chunks = Chunks(1000)
    for place, piece in enumerate(pieces):
        try:
            rest = chunks.feed(piece)
        except Refusal as error:
            return str(error)
        if chunks.is_done:
            return bytes(chunks.body), rest + b"".join(pieces[place + 1 :])
    return None


@pytest.fixture(scope="module")
def fuzzed() -> Serving:  # type: ignore[misc]  # pytest's own way to write a fixture that ends
    with serving(Limits(header_s=1.0, receive_s=1.0, linger_s=0.5, body_bytes=100_000)) as server:
        yield server


@given(parts=_noise, cuts=st.lists(st.integers(0, 400), max_size=5))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noise_gets_well_formed_answers_or_none_and_the_server_lives(
    fuzzed: Serving, parts: list[bytes], cuts: list[int]
) -> None:
    payload = b"".join(parts)
    with fuzzed.connect() as link:
        with contextlib.suppress(OSError):
            start = 0
            for cut in [*sorted(cuts), len(payload)]:
                link.sendall(payload[start:cut])
                start = max(start, cut)
            link.shutdown(socket.SHUT_WR)
        said = read_all(link)
    while said:
        head, found, rest = said.partition(b"\r\n\r\n")
        assert found and head.startswith(b"HTTP/1.1 "), said
        lines = [line for line in head.split(b"\r\n") if line.startswith(b"content-length: ")]
        said = rest[int(lines[0][16:]) :] if lines else rest
    assert fuzzed.say(get("/echo", "Connection: close")).startswith(b"HTTP/1.1 200 ")
    fuzzed.until(lambda: fuzzed.connections.intake.held_bytes == 0)


@given(cuts=st.lists(st.integers(0, 500), max_size=12))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_however_requests_are_split_each_has_exactly_one_answer(fuzzed: Serving, cuts: list[int]) -> None:
    chunked = _POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    payload = get() + post(b"x" * 50) + chunked + post(b"abc", "/deny") + get("/echo", "Connection: close")
    with fuzzed.connect() as link:
        start = 0
        for cut in [*sorted(cuts), len(payload)]:
            link.sendall(payload[start:cut])
            start = max(start, cut)
        said = read_all(link)
    assert [said.count(status) for status in (b"HTTP/1.1 200", b"HTTP/1.1 401", b"HTTP/1.1")] == [4, 1, 5]
