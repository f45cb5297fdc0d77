"""A place that answers as Azure's Resource Manager does: ids, versions, long operations, its errors; over TLS."""

import json
import re
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Json = dict[str, Any]
SUBSCRIPTION = "00000000-1111-2222-3333-444444444444"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/models"
TOKEN, SECRET = "token-of-the-test", "header-of-the-test"
_POLLS = 2  # an operation is asked for so often before it is done


class Refused(Exception):
    """Answer with an error, in Azure's form."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.answer = {"error": {"code": code, "message": message}}


class Failed(Exception):
    """Let an operation fail."""


Handler = Callable[["Call"], "Answer"]


class Call:
    """Be one call: what its path's groups hold, its body, and its If-Match."""

    def __init__(self, verb: str, path: str, body: Json | None, match: str) -> None:
        self.verb = verb
        self.path = path
        self.body = body or {}
        self.match = match


class Answer:
    """Be an answer; with `work` a long operation begins, which is told by the header that this provider uses."""

    def __init__(self, status: int, body: Json | None = None, *, work: Callable[[], None] | None = None) -> None:
        self.status = status
        self.body = body
        self.work = work


class Azure:
    """Hold what was made, and what is to go wrong."""

    def __init__(self) -> None:
        self.url = ""
        self.things: dict[str, Json] = {}
        self.broken: dict[str, str] = {}  # images that don't come up, with what is said of them
        self.is_stuck = False  # copies can't be let go
        self.page: tuple[int, str] | None = None  # what a proxy on the way answers
        self.refusing: Refused | None = None
        self.calls: list[tuple[str, str, Json]] = []
        self.routes: list[tuple[re.Pattern[str], str, Handler]] = []  # a path, the API's versions, who answers
        self.lock = threading.RLock()
        self.by_location = False  # tell of an operation by Location rather than by Azure-AsyncOperation
        self._operations: dict[str, Json] = {}
        self._number = 0

    def number(self) -> int:
        self._number += 1
        return self._number

    def made(self, verb: str, ending: str = "") -> list[Json]:
        return [body for one, path, body in self.calls if one == verb and path.endswith(ending)]

    def finish(self) -> None:
        """Do what is begun, though nobody asks for it any more."""
        for name, one in self._operations.items():
            while one["left"] > 0:
                self._look(name)

    def answer(self, call: Call, query: dict[str, str]) -> tuple[int, Json | str | None, dict[str, str]]:
        if call.path.startswith("/operations/"):
            return self._look(call.path.rpartition("/")[2])
        if self.page:
            return *self.page, {}
        if self.refusing:
            raise self.refusing
        for pattern, version, handler in self.routes:
            if pattern.fullmatch(call.path):
                if version and query.get("api-version") != version:
                    raise Refused(
                        400, "NoRegisteredProviderFound", f"no API version '{query.get('api-version')}' for {call.path}"
                    )
                self.calls.append((call.verb, call.path, call.body))
                answer = handler(call)
                return answer.status, answer.body, self._begin(call, answer) if answer.work else {}
        raise Refused(404, "InvalidResourceType", f"no resource type for {call.path}")

    def _begin(self, call: Call, answer: Answer) -> dict[str, str]:
        name = str(self.number())
        is_put = call.verb == "PUT"
        self._operations[name] = {
            "left": _POLLS,
            "work": answer.work,
            "path": call.path if is_put else "",
            "error": None,
        }
        key = "Location" if self.by_location and not is_put else "Azure-AsyncOperation"
        self._operations[name]["key"] = key
        return {key: f"{self.url}/operations/{name}?api-version=2025-01-01", "Retry-After": "0"}

    def _look(self, name: str) -> tuple[int, Json | None, dict[str, str]]:
        one = self._operations[name]
        one["left"] -= 1
        if one["left"] == 0:
            try:
                one["work"]()
            except Failed as error:
                one["error"] = {"code": "DeploymentFailed", "message": str(error)}
        is_over = one["left"] <= 0
        if one["key"] == "Location":
            if one["error"]:
                raise Refused(400, one["error"]["code"], one["error"]["message"])
            again = {"Location": f"{self.url}/operations/{name}?api-version=2025-01-01"}
            return (200, {}, {}) if is_over else (202, None, again)
        status = ("Failed" if one["error"] else "Succeeded") if is_over else "InProgress"
        return 200, {"id": name, "status": status, **({"error": one["error"]} if is_over and one["error"] else {})}, {}


def check(value: Any, known: Any, at: str = "") -> None:
    """Refuse names that aren't known, and types that don't fit; a key that ends with ! must be there."""
    if isinstance(known, dict) and isinstance(value, dict):
        _check_names(value, known, at)
    elif isinstance(known, list) and isinstance(value, list):
        for number, inner in enumerate(value):
            check(inner, known[0], f"{at}[{number}]")
    elif isinstance(known, dict | list) or not isinstance(value, known) or (known is int and isinstance(value, bool)):
        raise Refused(400, "InvalidRequestContent", f"'{at}' is {value!r}")


def _check_names(value: Json, known: Json, at: str) -> None:
    plain = {key.rstrip("!"): inner for key, inner in known.items()}
    for key in known:
        if key.endswith("!") and value.get(key[:-1]) in (None, ""):
            raise Refused(400, "InvalidRequestContent", f"the required property '{at}.{key[:-1]}' is missing")
    for key, inner in value.items():
        if key not in plain and "*" not in plain:
            raise Refused(400, "InvalidRequestContent", f"Could not find member '{key}' at '{at}'")
        check(inner, plain.get(key, plain.get("*")), f"{at}.{key}")


def merged(old: Any, new: Any) -> Any:
    """Merge a patch, as RFC 7396 says."""
    if not isinstance(new, dict) or not isinstance(old, dict):
        return new
    both = {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}
    return {key: value for key, value in both.items() if value is not None}


def _handler(azure: Azure) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - each of its methods is short
    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            split = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(split.query))
            if split.path == "/identity":
                return self._identity(query)
            with azure.lock:
                try:
                    if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                        raise Refused(401, "InvalidAuthenticationToken", "The access token is invalid.")
                    call = Call(
                        self.command, urllib.parse.unquote(split.path), json.loads(raw) if raw else None,
                        self.headers.get("If-Match", ""),
                    )  # fmt: skip
                    self._say(*azure.answer(call, query))
                except Refused as error:
                    self._say(error.status, error.answer, {})

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

        def _identity(self, query: dict[str, str]) -> None:
            if self.headers.get("X-IDENTITY-HEADER") != SECRET or query.get("resource") != azure.url:
                return self._say(400, {"message": f"no token for {query.get('resource')}"}, {})
            told = {"access_token": TOKEN, "expires_on": str(int(time.time()) + 3600), "token_type": "Bearer"}
            return self._say(200, {**told, "resource": azure.url}, {})

        def _say(self, status: int, body: Any, headers: dict[str, str]) -> None:
            raw = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    return Answers


@cache
def _certificate() -> tuple[bytes, bytes]:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "azure")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(serialization.Encoding.PEM), pem


@contextmanager
def running_azure(folder: Path) -> Iterator[tuple[Azure, dict[str, str]]]:
    """Give a cloud that listens, and the variables that a machine with a managed identity there has."""
    certificate, key = folder / "azure.crt", folder / "azure.key"
    certificate.write_bytes(_certificate()[0])
    key.write_bytes(_certificate()[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    azure = Azure()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(azure))
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    azure.url = f"https://127.0.0.1:{server.server_address[1]}"
    variables = {
        "IDENTITY_ENDPOINT": f"{azure.url}/identity", "IDENTITY_HEADER": SECRET, "REQUESTS_CA_BUNDLE": str(certificate),
    }  # fmt: skip
    try:
        yield azure, variables
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
