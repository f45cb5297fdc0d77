"""Run real registries, connections that break, and servers that lie."""

import base64
import datetime
import json
import os
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.ports import free_port

USER, PASSWORD = "ada", "secret"
_HTPASSWD = "ada:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"
_DEADLINE_S = 20


@contextmanager
def docker_registry(
    folder: Path, auth: dict[str, Any] | None = None, *, tls: dict[str, str] | None = None
) -> Iterator[str]:
    """Run Debian's docker-registry on an empty folder; gives its host:port."""
    port = free_port()
    config = {
        "version": "0.1",
        "log": {"accesslog": {"disabled": True}, "level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "tests", **({"tls": tls} if tls else {})},
        **({"auth": auth} if auth else {}),
    }
    (folder / "config.yml").write_text(json.dumps(config))
    program = shutil.which("docker-registry") or ""
    # It would take REGISTRY_AUTH_FILE, which is podman's and ours, for a setting of its own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    with (folder / "log").open("w") as log:
        words = [program, "serve", str(folder / "config.yml")]
        process = subprocess.Popen(words, stdout=log, stderr=log, env=environment)
    try:
        wait_for(lambda: _listens(port))
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(timeout=10)


def htpasswd_auth(folder: Path) -> dict[str, Any]:
    """Ask for ada's password."""
    (folder / "htpasswd").write_text(_HTPASSWD)
    return {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}


def wait_for(is_so: Callable[[], bool]) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + _DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.01)


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Cutter:
    """Be a TCP proxy that breaks its first connections after so many bytes, and counts what goes through."""

    upstream: str
    down_limits: list[int] = field(default_factory=list)
    up_limits: list[int] = field(default_factory=list)
    down_bytes: int = 0
    up_bytes: int = 0
    cuts: int = 0
    host: str = ""
    stalls: bool = False  # rather than to break, give no more bytes

    @contextmanager
    def running(self) -> Iterator["Cutter"]:
        """Listen until the end."""
        cutter = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                cutter.carry(self.request)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", free_port()), Handler)
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.host = f"127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def carry(self, client: socket.socket) -> None:
        """Carry one connection."""
        host, _, port = self.upstream.partition(":")
        with socket.create_connection((host, int(port))) as server:
            other = threading.Thread(target=self._pump, args=(client, server, "up"), daemon=True)
            other.start()
            self._pump(server, client, "down")
            other.join(timeout=_DEADLINE_S)

    def _pump(self, source: socket.socket, target: socket.socket, way: str) -> None:
        limits, passed = (self.down_limits if way == "down" else self.up_limits), 0
        try:
            while chunk := source.recv(65536):
                passed += len(chunk)
                setattr(self, f"{way}_bytes", getattr(self, f"{way}_bytes") + len(chunk))
                if limits and passed > limits[0]:
                    limits.pop(0)
                    self.cuts += 1
                    target.sendall(chunk[: len(chunk) // 2])
                    if self.stalls:
                        return
                    break
                target.sendall(chunk)
        except OSError:
            pass
        if not self.stalls:
            for end in (source, target):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


class TokenServer:
    """Give tokens as docker's token protocol has them, signed so that docker-registry believes them."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[dict[str, list[str]]] = []
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .sign(self._key, hashes.SHA256())
        )
        self._x5c = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
        self._bundle = folder / "tokens.pem"
        self._bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.realm = ""

    def auth(self) -> dict[str, Any]:
        """Give what docker-registry needs to believe us."""
        return {
            "token": {
                "realm": self.realm, "service": "tests", "issuer": "tests", "rootcertbundle": str(self._bundle),
            }
        }  # fmt: skip

    @contextmanager
    def running(self) -> Iterator["TokenServer"]:
        """Listen until the end."""
        with scripted({"/token": self._answer}) as server:
            self.realm = f"http://{server.host}/token"
            yield self

    def _answer(self, request: "Request") -> "Reply":
        form = parse_qs(request.body.decode()) if request.method == "POST" else request.query
        self.asked.append(form)
        login = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
        is_known = form.get("refresh_token") == ["refresh"] or request.headers.get("authorization") == login
        if not is_known:
            return Reply(401)
        scopes = [scope for text in form.get("scope", []) for scope in text.split(" ")]
        access = [
            {"type": kind, "name": name, "actions": actions.split(",")}
            for kind, name, actions in (scope.split(":") for scope in scopes)
        ]
        now = int(time.time())
        claims = {
            "iss": "tests", "aud": "tests", "sub": USER, "iat": now, "nbf": now - 10, "exp": now + 60, "jti": "1",
            "access": access,
        }  # fmt: skip
        token = jwt.encode(claims, self._key, "ES256", headers={"x5c": [self._x5c]})
        key = "access_token" if request.method == "POST" else "token"
        return Reply(200, json.dumps({key: token}).encode())


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None


@dataclass
class Scripted:
    host: str
    requests: list[Request]


@contextmanager
def scripted(answers: Mapping[str, Callable[[Request], Reply] | Reply]) -> Iterator[Scripted]:
    """Be a server that does what no good registry does; the longest path that begins a request's answers it."""
    requests: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(length)
            request = Request(self.command, parts.path, parse_qs(parts.query), headers, body)
            requests.append(request)
            fits = [path for path in answers if parts.path.startswith(path)]
            reply = answers[max(fits, key=len)] if fits else Reply(404)
            reply = reply if isinstance(reply, Reply) else reply(request)
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body[: reply.cut_after])
            if reply.cut_after is not None:
                self.close_connection = True

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield Scripted(f"127.0.0.1:{server.server_address[1]}", requests)
    finally:
        server.shutdown()
        server.server_close()
