"""Run real servers in processes of their own, and speak raw HTTP to them."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_PROGRAM = """
import json, sys
from pathlib import Path
from ferryman.core.errors import FerrymanError
from ferryman.server.app import serve
from ferryman.server.settings import ServerSettings
PATHS = ("keys", "jwt", "tls_cert", "tls_key", "client_ca", "client_rights", "state", "engines", "policy", "monitor")
given = json.loads(sys.argv[1])
settings = ServerSettings(**{name: Path(value) if name in PATHS else value for name, value in given.items()})
try:
    serve([Path(path) for path in sys.argv[2:]], settings, lambda url, admin: print(url, admin, flush=True))
except FerrymanError as error:
    print(f"error: {error}; {error.hint}", file=sys.stderr)
    sys.exit(error.exit_code)
"""


@dataclass(frozen=True)
class Running:
    """Hold a server's address and process."""

    url: str
    process: subprocess.Popen[str]
    errors: Path
    admin_url: str = ""

    @property
    def address(self) -> str:
        """Give host and port, as tritonclient wants them."""
        return urlsplit(self.url).netloc

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Give what a socket connects to."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Give status, JSON (or bytes) and headers of one answer, over a connection of its own."""
        connection = HTTPConnection(self.address, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            return read_answer(connection.getresponse())
        finally:
            connection.close()

    def infer(self, model: str, request: object) -> tuple[int, Any]:
        """Send JSON to a model."""
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        return self.ask("POST", f"/v2/models/{model}/infer", body, {"Content-Type": "application/json"})[:2]

    def raw(self, payload: bytes, *, timeout_s: float = 20) -> bytes:
        """Send bytes as they are and read until the server closes, or answers in full."""
        with socket.create_connection(self.host_and_port) as link:
            link.settimeout(timeout_s)
            with suppress(BrokenPipeError, ConnectionResetError):  # refused early: its answer is there to read
                link.sendall(payload)
            return read_until_done(link)

    def log(self) -> str:
        """Give what the process wrote to stderr until now."""
        return self.errors.read_text()

    def stop(self, *, timeout_s: float = 20) -> int:
        """Send SIGTERM and give the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


@contextmanager
def started(arguments: Sequence[str], settings: Mapping[str, Any]) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Start a server process (its first line is its address) and give it with the file of its stderr."""
    with tempfile.TemporaryDirectory() as folder, Path(folder, "stderr").open("w") as errors:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _PROGRAM,
                json.dumps({"port": 0, "access_log": "off", **settings}, default=str),
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
        try:
            yield process, Path(errors.name)
        finally:
            process.kill()
            process.communicate(timeout=10)


@contextmanager
def running(paths: Sequence[Path], *, is_ready: bool = True, **settings: Any) -> Iterator[Running]:
    """Serve bundles for the length of a test; no test may leave a traceback in the log."""
    with started([str(path) for path in paths], settings) as (process, errors):
        if is_ready:
            url, _, admin_url = process.stdout.readline().strip().partition(" ") if process.stdout else ("", "", "")
        else:
            wait_until(lambda: "not ready: http" in errors.read_text())
            url, admin_url = errors.read_text().partition("not ready: ")[2].partition("/v2/")[0], ""
        assert url, errors.read_text()
        server = Running(url, process, errors, admin_url)
        yield server
        assert "Traceback" not in server.log()


def refusal(paths: Sequence[Path], **settings: Any) -> tuple[int, str]:
    """Give exit code and stderr of a server that can't start."""
    with started([str(path) for path in paths], settings) as (process, errors):
        return process.wait(30), errors.read_text()


def read_answer(response: HTTPResponse) -> tuple[int, Any, dict[str, str]]:
    """Give status, JSON (or bytes) and headers."""
    payload = response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    is_json = headers.get("content-type", "").startswith("application/json")
    return response.status, json.loads(payload) if is_json else payload, headers


def read_until_done(link: socket.socket) -> bytes:
    """Read one whole HTTP answer."""
    received = b""
    while True:
        head, separator, body = received.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if separator and lengths and len(body) >= int(lengths[0].split(b":")[1]):
            return received
        try:
            chunk = link.recv(65536)
        except ConnectionResetError:
            return received
        if not chunk:
            return received
        received += chunk


def wait_until(condition: Any, *, timeout_s: float = 20) -> None:
    """Ask again and again until `condition()` is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
