import hashlib
import json
import socket
from http.client import HTTPConnection

import pytest

from ferryman.server.data.http.limits import Limits
from tests.server.http.serving import get, post, read_all, read_answers, serving


def test_one_connection_serves_many_requests() -> None:
    with serving() as server:
        client = HTTPConnection(*server.address, timeout=20)
        for count in range(20):
            client.request("POST", f"/echo%20there?n={count}", b"a" * count, {"Content-Type": "text/plain"})
            answer = client.getresponse()
            told = json.loads(answer.read())
            assert answer.status == 200 and answer.getheader("x-served") == "yes" and answer.getheader("date")
            assert (told["path"], told["query"], told["length"]) == ("/echo there", f"n={count}", count)
            assert told["peer"] == "127.0.0.1"
        client.close()
        assert server.application.answered == 20


def test_pipelined_requests_are_answered_in_their_order() -> None:
    with serving() as server, server.connect() as link:
        link.sendall(b"".join(post(b"b" * n, f"/echo?{n}") for n in range(100)))
        answers = read_answers(link, 100)
    assert [json.loads(body)["query"] for _, body in answers] == [str(n) for n in range(100)]
    assert [json.loads(body)["length"] for _, body in answers] == list(range(100))


def test_pipelined_requests_wait_for_the_one_in_work() -> None:
    with serving() as server, server.connect() as link:
        link.sendall(post(b"first", "/later") + b"".join(get(f"/echo?{n}") for n in range(50)))
        server.until(lambda: len(server.application.kept) == 1)
        assert server.application.answered == 0
        server.let_go()
        answers = read_answers(link, 51)
    assert json.loads(answers[0][1])["length"] == 5
    assert [json.loads(body)["query"] for _, body in answers[1:]] == [str(n) for n in range(50)]


def test_each_of_several_late_answers_lets_the_next_request_in() -> None:
    with serving() as server, server.connect() as link:
        link.sendall(post(b"1", "/later") * 5)
        for _ in range(5):
            server.until(lambda: len(server.application.kept) == 1)
            server.let_go()
        assert [status for status, _ in read_answers(link, 5)] == [200] * 5


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 1 << 20, (1 << 20) + 1, 32 << 20])
def test_bodies_of_every_size_arrive_whole(size: int) -> None:
    body = bytes(range(251)) * (size // 251 + 1)
    body = body[:size]
    with serving() as server, server.connect() as link:
        for _ in range(2):
            link.sendall(post(body))
            [(status, answer)] = read_answers(link, 1)
            assert (status, json.loads(answer)["length"]) == (200, size)
            assert json.loads(answer)["sha256"] == hashlib.sha256(body).hexdigest()


def test_a_request_behind_a_large_body_is_a_request() -> None:
    with serving() as server, server.connect() as link:
        link.sendall(post(b"a" * 200_000) + get("/echo?after") + post(b"c" * 300_000))
        answers = [json.loads(body) for _, body in read_answers(link, 3)]
    assert [answer["length"] for answer in answers] == [200_000, 0, 300_000]


def test_large_answers_come_whole() -> None:
    with serving() as server, server.connect() as link:
        link.sendall(get("/large?20000000") + get("/large?1001") + get())
        answers = read_answers(link, 3)
    assert [len(body) for _, body in answers[:2]] == [20_000_000, 1001]
    assert answers[0][1] == b"x" * 10_000_000 + b"y" * 10_000_000


def test_chunks_are_put_together() -> None:
    chunks = b"5\r\nabcde\r\n" + b"a;name=value\r\n0123456789\r\n" + b"0\r\nX-Trailer: yes\r\n\r\n"
    request = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    with serving() as server, server.connect() as link:
        link.sendall(request * 2 + get())
        lengths = [json.loads(body)["length"] for _, body in read_answers(link, 3)]
        assert lengths == [15, 15, 0]
        for at in range(len(request)):
            link.sendall(request[at : at + 1])
        assert json.loads(read_answers(link, 1)[0][1])["length"] == 15


def test_head_has_headers_and_no_body() -> None:
    with serving() as server:
        said = server.say(b"HEAD /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"content-length: " in head and b"content-length: 0" not in head
    assert body == b""


def test_http_1_0_closes_unless_it_asks_to_stay() -> None:
    with serving() as server:
        assert b"connection: close" in server.say(b"GET /echo HTTP/1.0\r\n\r\n")
        with server.connect() as link:
            link.sendall(b"GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert b"connection: keep-alive" in link.recv(65536)
            link.sendall(b"GET /echo HTTP/1.0\r\n\r\n")
            assert b"connection: close" in read_all(link)


def test_continue_is_said_only_to_admitted_requests() -> None:
    with serving() as server:
        with server.connect() as link:
            link.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            assert link.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            link.sendall(b"abc")
            assert read_answers(link, 1)[0][0] == 200
            link.sendall(b"POST /deny HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            refused = read_all(link)
        assert refused.startswith(b"HTTP/1.1 401 ") and b"connection: close" in refused and b"100" not in refused


def test_a_request_refused_early_keeps_the_connection_if_its_body_is_small() -> None:
    with serving() as server, server.connect() as link:
        link.sendall(post(b"a" * 1000, "/deny") + get())
        assert [status for status, _ in read_answers(link, 2)] == [401, 200]
        link.sendall(post(b"a" * 50_000, "/deny")[:-10])
        assert read_answers(link, 1)[0][0] == 401
        link.sendall(b"a" * 10 + get())
        assert read_answers(link, 1)[0][0] == 200


def test_a_request_refused_early_closes_the_connection_if_its_body_is_large() -> None:
    with serving() as server:
        said = server.say(post(b"a" * 10_000_000, "/deny"))
        assert said.startswith(b"HTTP/1.1 401 ") and b"connection: close" in said
        assert server.application.admitted == 0


def test_a_client_that_leaves_is_forgotten_and_its_late_answer_goes_nowhere() -> None:
    with serving() as server:
        with server.connect() as link:
            link.sendall(post(b"abc", "/later"))
            server.until(lambda: len(server.application.kept) == 1)
        server.until(lambda: server.application.forgotten == 1)
        server.let_go()
        assert server.connections.intake.held_bytes == 0


def test_a_client_that_leaves_within_its_body_is_forgotten() -> None:
    with serving() as server:
        for size in (100, 500_000, 10_000_000):
            with server.connect() as link:
                link.sendall(post(b"a" * size)[:-1])
        with server.connect() as link:
            link.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc")
        server.until(lambda: server.application.forgotten == 4)
        assert server.application.answered == 0
        assert server.connections.intake.held_bytes == 0


def test_a_connection_that_is_reset_leaves_nothing_behind() -> None:
    with serving() as server:
        for payload in (b"", b"PO", post(b"abc", "/later"), post(b"a" * 100_000)[:-5]):
            link = server.connect()
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            link.sendall(payload)
            link.close()
        server.until(lambda: server.application.forgotten == server.application.admitted)
        server.until(lambda: not server.connections.members)


def test_what_the_application_raises_is_told_by_an_id_alone(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as server, server.connect() as link:
        link.sendall(get("/raise") + get("/raise-early") + get("/bad-header") + get())
        answers = read_answers(link, 4)
    assert [status for status, _ in answers] == [500, 500, 500, 200]
    assert all(b"secret" not in body for _, body in answers)
    assert "a secret of the house" in caplog.text


def test_an_absolute_target_is_its_path() -> None:
    with serving() as server, server.connect() as link:
        link.sendall(b"GET http://other:81/echo?x=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        told = json.loads(read_answers(link, 1)[0][1])
    assert (told["path"], told["query"]) == ("/echo", "x=1")


def test_an_empty_line_before_a_request_is_passed_over() -> None:
    with serving() as server, server.connect() as link:
        link.sendall(b"\r\n" + get() + b"\r\n\r\n" + get())
        assert [status for status, _ in read_answers(link, 2)] == [200, 200]
        link.sendall(b"\r")
        link.sendall(b"\n" + get())
        assert read_answers(link, 1)[0][0] == 200


def test_while_draining_each_answer_ends_its_connection() -> None:
    with serving(Limits()) as server, server.connect() as link:
        link.sendall(get())
        assert read_answers(link, 1)[0][0] == 200
        server.connections.is_draining = True
        link.sendall(get())
        assert b"connection: close" in read_all(link)
