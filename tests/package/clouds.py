"""Start an image as each cloud starts containers, and keep what was seen of every clause of their contracts."""

import asyncio
import socket
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from uuid import uuid4

from ferryman.client.http import Client
from ferryman.container.container import SHUT, Container
from ferryman.container.drain import Sent, ask_while_it_stops
from ferryman.container.engine import Engine
from ferryman.core.bundle import Bundle
from tests.package.engines import PODMAN
from tests.ports import free_port
from tests.server.running import read_answer

_DEADLINE_S = 60.0
_POLL_S = 0.05


@dataclass(frozen=True)
class Cloud:
    """Say how a cloud starts a container: the engine's words, the environment, the command, the port that it asks.

    `grace_s` is what it gives between SIGTERM and SIGKILL, `health` where it looks whether the container is ready.
    """

    name: str
    health: str
    infer: str
    grace_s: float
    words: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    port: int = 8080


@dataclass(frozen=True)
class Seen:
    """Hold a container that a cloud would find well, and what its health address said before: 0 for no connection."""

    cloud: Cloud
    container: Container
    bundle: Bundle
    before: tuple[int, ...]
    ready_s: float

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Give status, JSON (or bytes) and headers of one answer, over a connection of its own."""
        link = HTTPConnection("127.0.0.1", self.container.port, timeout=30)
        try:
            link.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            return read_answer(link.getresponse())
        finally:
            link.close()

    def connect_s(self) -> float:
        """Give the seconds that the server itself, and no proxy of the engine, takes to accept a connection."""
        began = time.monotonic()
        socket.create_connection(self.container.inside, timeout=5).close()
        return time.monotonic() - began

    def version(self) -> str:
        """Give the version of the only model that is served."""
        with Client(self.container.url) as client:
            (model,) = client.metadata(self.bundle.manifest.name)["versions"]
            return str(model)

    def user(self) -> int:
        """Give the number of the user that the server runs as."""
        return Path("/proc", str(self.container.pid)).stat().st_uid

    def stop_under_load(self, body: bytes, content_type: str) -> tuple[Sent, float, int]:
        """Send SIGTERM under load; gives what became of each request, the seconds until the end, and the exit code."""
        head = f"POST {self.cloud.infer} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        sent, stopped_s = asyncio.run(ask_while_it_stops(self.container, [request], self.cloud.grace_s))
        state = self.container.wait(self.cloud.grace_s)
        return sent, time.monotonic() - stopped_s, -1 if state.is_running else state.exit_code


@contextmanager
def started(cloud: Cloud, image: str, bundle: Bundle, *, until: int = 200) -> Iterator[Seen]:
    """Run the image as a cloud does, until its health address gives the status `until`; removed after the block."""
    name, port = f"ferryman-test-{uuid4().hex[:8]}", free_port()
    words = [*cloud.words, *(word for pair in cloud.env.items() for word in ("--env", "=".join(pair)))]
    words += ["--publish", f"127.0.0.1:{port}:{cloud.port}", "--pull", "never"]
    try:
        PODMAN("create", "--name", name, *words, image, *cloud.args)
        began = time.monotonic()
        PODMAN("start", name)
        container = _container(name, port, cloud.port)
        before: list[int] = []
        while (status := _status(port, cloud.health)) != until:
            before.append(status)
            said = PODMAN("logs", name, check=False)
            assert container.state().is_running and time.monotonic() < began + _DEADLINE_S, f"{before}: {said}"
            time.sleep(_POLL_S)  # until it is as wanted
        yield Seen(cloud, container, bundle, tuple(before), time.monotonic() - began)
        assert "Traceback" not in PODMAN("logs", name, check=False)
    finally:
        PODMAN("rm", "-f", "-t", "0", name, check=False)


def _container(name: str, port: int, inner: int) -> Container:
    engine = Engine("podman")
    (told,) = engine.json("inspect", name)
    address = str(told["NetworkSettings"]["IPAddress"])
    return Container(engine, name, SHUT, port, int(told["State"]["Pid"]), time.time(), (address, inner))


def _status(port: int, path: str) -> int:
    link = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        link.request("GET", path)
        return link.getresponse().status
    except (OSError, HTTPException):
        return 0
    finally:
        link.close()


@dataclass(frozen=True)
class Clause:
    """Hold what a cloud asks of a container, where it says so, and how that is seen; a check gives what it saw."""

    cloud: str
    promise: str
    source: str
    check: Callable[[Seen], str]


Check = Callable[[Seen], str]


class Contract(list[Clause]):
    """Be the clauses, in the order in which they are tried."""

    def clause(self, cloud: str, promise: str, source: str) -> Callable[[Check], Check]:
        """Note a check as one clause of a cloud's contract."""

        def note(check: Check) -> Check:
            self.append(Clause(cloud, promise, source, check))
            return check

        return note


def table(rows: Mapping[Clause, str], sources: Mapping[str, str]) -> list[str]:
    """Give the lines of a table: what was seen of each clause (or the failure), and where each source is."""
    keys = {address: key for key, address in sources.items()}
    lines = [
        (one.cloud, one.promise, keys[one.source], seen or "FAILED") for one, seen in rows.items()
    ]  # fmt: skip
    heads = ("cloud", "clause", "source", "seen")
    widths = [max(len(line[place]) for line in (heads, *lines)) for place in range(4)]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (heads, *lines)]
    return [*(line.rstrip() for line in shown), *(f"{key}: {address}" for key, address in sources.items())]


def unpacked(archive: Path, into: Path) -> Path:
    """Unpack a model's archive as a platform does: for its own user, readable for all."""
    into.mkdir(mode=0o755)
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")
    into.chmod(0o755)
    return into
