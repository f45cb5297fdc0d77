"""What is turned away before it is a request is told in one line each, with who it was and why."""

import contextlib
import logging
import os
import resource
import socket
import ssl
from pathlib import Path

import pytest

from ferryman.server.data.http.limits import Limits
from ferryman.server.data.http.refused import Refused
from ferryman.server.data.http.tls import Certificate
from tests.server.http.serving import Serving, post, serving
from tests.server.http.test_tls import Authority, authority, make_authority

__all__ = ["authority"]  # a fixture
HOST = b"Host: a\r\n"


def listen(server: Serving) -> list[Refused]:
    """Give the list to which the server adds what it refuses."""
    told: list[Refused] = []
    server.connections.on_refused = told.append
    return told


@pytest.mark.parametrize(
    ("payload", "status", "reason", "path"),
    [
        (b"\x16\x03\x01 a TLS client\r\n\r\n", 400, "not one of HTTP/1.1", ""),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "the request has no Host header", ""),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "the request's target is longer", ""),
        (b"GET / HTTP/1.1\r\n" + HOST + b"a: b\r\n" * 101 + b"\r\n", 431, "more than 100 headers", ""),
        (b"POST /a?secret HTTP/1.1\r\n" + HOST + b"Content-Length: 99\r\n\r\n", 413, "the body is larger", "/a"),
        (b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\nhalf", 408, "the body did not come", "/a"),
        (b"POST /a HTT", 408, "the headers did not come", ""),
        (post(b"no gzip", "/a", "Content-Encoding: gzip", "Connection: close"), 400, "gzip", "/a"),
    ],
)
def test_a_refusal_says_who_was_refused_and_why(payload: bytes, status: int, reason: str, path: str) -> None:
    with serving(Limits(body_bytes=50, header_s=0.3, receive_s=0.3)) as server:
        told = listen(server)
        assert server.say(payload).startswith(b"HTTP/1.1 %d " % status) or not payload.endswith(b"\r\n")
        server.until(lambda: len(told) == 1)
        assert (told[0].kind, told[0].status, told[0].peer, told[0].path) == (str(status), status, "127.0.0.1", path)
        assert reason in told[0].reason
        assert server.connections.refused == {str(status): 1}


def test_a_connection_too_many_is_told_of() -> None:
    with serving(Limits(connections=1)) as server, server.connect():
        told = listen(server)
        server.until(lambda: server.connections.count() == 1)
        assert b"503" in server.say(post(b""))
        assert told == [Refused("503", 503, "this server has 1 connections, and no more", "127.0.0.1")]


def test_a_handshake_that_fails_is_told_of_with_its_reason(tmp_path: Path, authority: Authority) -> None:
    stranger = make_authority(tmp_path, "another")
    certificate = Certificate(authority.issue("server"), http2=True)
    with serving(Limits(header_s=0.3), tls=certificate.context) as server:
        told = listen(server)
        server.say(post(b""))  # no TLS at all
        with pytest.raises(ssl.SSLError):
            server.connect(tls=stranger.trusting())
        with server.connect() as silent:
            silent.sendall(b"\x16")  # and never the rest
            server.until(lambda: len(told) == 3)
        assert {refused.kind for refused in told} == {"tls"}
        assert [refused.peer for refused in told] == ["127.0.0.1"] * 3
        reasons = "; ".join(refused.reason for refused in told)
        assert "http request" in reasons and "unknown ca" in reasons and "longer than 0.3 s" in reasons
        with server.connect() as looker:
            looker.shutdown(socket.SHUT_RDWR)  # only looked whether the port is open
        with server.connect(tls=authority.trusting()):
            pass
        assert len(told) == 3


def test_a_client_without_the_certificate_that_is_asked_for_is_told_of(tmp_path: Path, authority: Authority) -> None:
    files = authority.issue("server")
    stranger = make_authority(tmp_path, "another").issue("client")
    context = Certificate(files, http2=True).context
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    with serving(tls=context) as server:
        told = listen(server)
        for client in (None, stranger):
            # TLS 1.3 tells a client only when it reads.
            refused = contextlib.suppress(ssl.SSLError, ConnectionError)
            with refused, server.connect(tls=authority.trusting(client)) as link:
                link.sendall(post(b""))
                assert link.recv(1) == b"", "it was let in"
        server.until(lambda: len(told) == 2)
        assert "peer did not return a certificate" in told[0].reason
        assert "the client's certificate is not good" in told[1].reason


def test_handshakes_that_never_end_hold_nobody_up(authority: Authority) -> None:
    certificate = Certificate(authority.issue("server"), http2=True)
    with serving(tls=certificate.context) as server:
        silent = [server.connect() for _ in range(50)]
        with server.connect(tls=authority.trusting()) as link:
            link.sendall(post(b"x"))
            assert link.recv(12) == b"HTTP/1.1 200"
        for link in silent:  # each of them is still waited for
            link.setblocking(False)
            with pytest.raises(BlockingIOError):
                link.recv(1)
            link.close()


def test_connections_and_handshakes_together_keep_to_the_limit_and_one_more_is_told_of(authority: Authority) -> None:
    certificate = Certificate(authority.issue("server"), http2=True)
    with serving(Limits(connections=2), tls=certificate.context) as server:
        told = listen(server)
        with server.connect(tls=authority.trusting()) as link:
            for _ in range(4):  # turns of the server's loop, in which it sees that the handshake is over
                link.sendall(post(b"x"))
                assert link.recv(65536).startswith(b"HTTP/1.1 200")
            with server.connect():
                assert server.say(b"") == b""
                server.until(lambda: len(told) == 1)
        assert told == [Refused("tls", 0, "too many connections and handshakes", "127.0.0.1")]
        server.until(lambda: server.connections.count() == 0)
        with server.connect(tls=authority.trusting()) as link:
            link.sendall(post(b"x"))
            assert link.recv(12) == b"HTTP/1.1 200"


def test_no_file_left_for_a_connection_is_told_once_and_the_connection_is_served_when_there_is_one(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    certificate = Certificate(authority.issue("server"), http2=True)
    context = authority.trusting()
    with serving(tls=certificate.context) as server, socket.socket() as link:
        first_free = os.dup(0)
        os.close(first_free)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, limits[1]))
        try:
            link.connect(server.address)
            link.settimeout(1)  # in which the server tries some times
            with pytest.raises(TimeoutError):
                link.recv(1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert caplog.text.count("no connection can be accepted for now: Too many open files") == 1
        link.settimeout(20)
        with context.wrap_socket(link, server_hostname="localhost") as served:
            served.sendall(post(b"x"))
            assert served.recv(12) == b"HTTP/1.1 200"
