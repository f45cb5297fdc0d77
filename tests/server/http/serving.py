"""Serve a small application on a real port, from a thread with a loop of its own."""

import asyncio
import contextlib
import hashlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvloop

from ferryman.server.data.http.connections import Connections
from ferryman.server.data.http.cors import Origins
from ferryman.server.data.http.intake import Intake
from ferryman.server.data.http.limits import Limits
from ferryman.server.data.http.listener import Factory, Listener, open_socket
from ferryman.server.data.http.request import (
    Application,
    Request,
    Respond,
    Response,
    Stream,
)
from ferryman.server.data.http.request import (
    Listener as StreamListener,
)

T = TypeVar("T")


class Echo:
    """Answer what was asked; `/later` waits for `let_go`, `/large?N` answers N bytes, `/deny` refuses at admission."""

    def __init__(self) -> None:
        self.admitted = 0
        self.answered = 0
        self.forgotten = 0
        self.kept: list[tuple[Request, Respond]] = []
        self.streams: list[Talk] = []

    def admit(self, request: Request, length: int | None) -> Response | None:
        if request.path == "/deny":
            return Response(401, b'{"error": "who are you?"}')
        if request.path == "/raise-early":
            raise RuntimeError("a secret of the house")
        self.admitted += 1
        return None

    def answer(self, request: Request, respond: Respond) -> None:
        if request.path == "/raise":
            raise RuntimeError("a secret of the house")
        if request.path == "/later":
            self.kept.append((request, respond))
            return
        self.answered += 1
        if request.path == "/large":
            size = int(request.query)
            respond(Response(200, (b"x" * (size // 2), memoryview(b"y" * (size - size // 2))), b"text/plain"))
        elif request.path == "/bad-header":
            respond(Response(200, b"", headers=((b"x", b"a\r\nset-cookie: b"),)))
        else:
            respond(Response(200, described(request), headers=((b"x-served", b"yes"),)))

    def forget(self, request: Request) -> None:
        self.forgotten += 1

    def open_stream(self, request: Request, stream: Stream) -> StreamListener | Response:
        if request.path == "/no-stream":
            return Response(404, b'{"error": "no stream here"}')
        talk = Talk(stream)
        self.streams.append(talk)
        return talk


@dataclass
class Talk:
    """Echo messages; "pause" pauses, "close" says goodbye, "raise" fails, "flood N" sends N messages of 64 KiB."""

    stream: Stream
    heard: list[str | bytes] = field(default_factory=list)
    closed: int = 0

    @property
    def is_busy(self) -> bool:
        return False

    def on_message(self, payload: str | bytes) -> None:
        self.heard.append(payload)
        if payload == "close":
            self.stream.close(4000, "as you wish")
        elif payload == "pause":
            self.stream.pause()
        elif payload == "raise":
            raise RuntimeError("a secret of the house")
        elif isinstance(payload, str) and payload.startswith("flood"):
            for _ in range(int(payload.split()[1])):
                self.stream.send_bytes(b"z" * 65536)
        elif isinstance(payload, str):
            self.stream.send_text(payload)
        else:
            self.stream.send_bytes(payload)

    def on_close(self) -> None:
        self.closed += 1


def described(request: Request) -> bytes:
    """Give the JSON that tells what of a request arrived."""
    return json.dumps(
        {
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "length": len(request.body),
            "sha256": hashlib.sha256(request.body).hexdigest(),
            "peer": request.peer,
            "bytes_in": request.bytes_in,
            "certificate": bool(request.certificate),
        }
    ).encode()


@dataclass
class Serving:
    """Hold a running server; everything of it is used through `call`, on its loop."""

    address: tuple[str, int]
    application: Echo
    connections: Connections
    listener: Listener
    loop: asyncio.AbstractEventLoop

    def call(self, work: Callable[[], T]) -> T:
        """Run a function on the loop."""

        async def run() -> T:
            return work()

        return self.wait(run())

    def wait(self, work: Coroutine[Any, Any, T], *, timeout_s: float = 20) -> T:
        """Run a coroutine on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def connect(self, *, tls: ssl.SSLContext | None = None) -> socket.socket:
        """Open a connection."""
        link = socket.create_connection(self.address, timeout=20)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return tls.wrap_socket(link, server_hostname="localhost") if tls else link

    def say(self, payload: bytes) -> bytes:
        """Send bytes over a connection of its own, and read until the server closes it."""
        with self.connect() as link:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                link.sendall(payload)
            return read_all(link)

    def let_go(self) -> None:
        """Answer what is kept."""

        def answer() -> None:
            kept, self.application.kept = self.application.kept, []
            for request, respond in kept:
                respond(Response(200, described(request)))

        self.call(answer)

    def until(self, is_so: Callable[[], bool], *, timeout_s: float = 10) -> None:
        """Wait for a condition."""
        end = time.monotonic() + timeout_s
        while not self.call(is_so):
            assert time.monotonic() < end, "what was waited for did not happen"
            threading.Event().wait(0.005)


@contextlib.contextmanager
def serving(
    limits: Limits | None = None,
    *,
    total_bytes: int = 1 << 28,
    origins: Origins | None = None,
    http2: Factory | None = None,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    application: Application | None = None,
) -> Iterator[Serving]:
    """Serve until the end of the block; nothing may be in work or held by then that the test did not leave there."""
    limits = limits or Limits()
    echo = Echo()
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    listening = open_socket(host, 0)
    address = listening.getsockname()

    async def build() -> tuple[Connections, Listener]:
        intake = Intake(limit_bytes=limits.body_bytes, total_bytes=total_bytes)
        connections = Connections(application or echo, limits, intake, origins)
        listener = Listener(listening, connections, http2=http2, tls=tls)
        await listener.start()
        return connections, listener

    connections, listener = asyncio.run_coroutine_threadsafe(build(), loop).result(20)
    running = Serving(address[:2] if isinstance(address, tuple) else address, echo, connections, listener, loop)
    try:
        yield running
    finally:
        running.wait(listener.drain(0.2, idle_s=0))
        running.until(lambda: not connections.members)
        held = connections.intake.held_bytes
        running.wait(loop.shutdown_default_executor())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()
        assert held == 0, f"{held} bytes are still counted"


def read_all(link: socket.socket) -> bytes:
    """Read until the other end closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := link.recv(1 << 20):
            parts.append(part)
    return b"".join(parts)


def read_answers(link: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Read so many answers: status and body of each."""
    answers = []
    with link.makefile("rb") as stream:
        for _ in range(count):
            answers.append(_read_answer(stream))
    return answers


def _read_answer(stream: Any) -> tuple[int, bytes]:  # a buffered reader
    line = stream.readline()
    assert line.startswith(b"HTTP/1.1 "), line
    size = 0
    while (header := stream.readline()) not in (b"\r\n", b""):
        if header.lower().startswith(b"content-length:"):
            size = int(header.split(b":")[1])
    return int(line.split()[1]), stream.read(size)


def post(body: bytes, path: str = "/echo", *headers: str) -> bytes:
    """Give a request."""
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


def get(path: str = "/echo", *headers: str) -> bytes:
    """Give a request."""
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode()
