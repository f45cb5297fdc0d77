"""The server under examination: where it is, what it says of itself, and plain HTTP to it."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ferryman.conformance.broken import Broken, expect
from ferryman.core.errors import ConfigError, NotReady


@dataclass(frozen=True, slots=True)
class Reply:
    """Hold one HTTP answer; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    payload: bytes

    def json(self) -> Any:  # from the server
        """Give the body's JSON; raises Broken where it is none."""
        try:
            return json.loads(self.payload)
        except ValueError:
            raise Broken(f"status {self.status} comes with a body that is no JSON: {self.payload[:80]!r}") from None

    def object(self) -> dict[str, Any]:  # from the server
        """Give the body's JSON object."""
        value = self.json()
        expect(isinstance(value, dict), f"the body is no JSON object: {self.payload[:80]!r}")
        return dict(value)


@dataclass(frozen=True)
class Target:
    """Say where the server is and how to speak to it.

    `grpc` is HOST:PORT, empty where gRPC is not offered; `headers` go with every request (an API key);
    `kserve_python` is the Python of an environment that holds the kserve SDK; `inputs` hold a request (JSON) for
    each model that can't be asked about made values. Only with `may_unload` are models taken from the server and given
    back, which all who ask it notice.
    """

    url: str
    grpc: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 20.0
    kserve_python: Path | None = None
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # JSON requests
    may_unload: bool = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{self.url!r} is not a server's address", hint="http://HOST:PORT")

    @property
    def is_tls(self) -> bool:
        """Tell whether the server speaks TLS."""
        return self.url.startswith("https:")

    @property
    def address(self) -> str:
        """Give the URL without its scheme, as tritonclient takes it."""
        return self.url.partition("://")[2].rstrip("/")

    @cached_property
    def about(self) -> dict[str, Any]:  # from the server
        """Give the server's metadata; raises NotReady where it can't be reached."""
        try:
            reply = self.ask("GET", "/v2")
            return reply.object() if reply.status == 200 else {}
        except OSError as error:
            raise NotReady(f"{self.url} can't be reached: {error}", hint="is the server running?") from None
        except Broken:
            return {}

    @property
    def extensions(self) -> frozenset[str]:
        """Give the extensions that the server announces."""
        announced = self.about.get("extensions")
        return frozenset(map(str, announced)) if isinstance(announced, list) else frozenset()

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """Send one request over a connection of its own."""
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if self.is_tls else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self.timeout_s)
        try:
            connection.request(method, parts.path.rstrip("/") + path, body or None, {**self.headers, **(headers or {})})
            answer = connection.getresponse()
            payload = answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"no HTTP answer: {error!r}") from None
        finally:
            connection.close()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, payload)

    def model_names(self) -> list[str]:
        """Give the names in the repository's index; raises ConfigError where the server has none."""
        reply = self.ask("POST", "/v2/repository/index", b"{}", {"Content-Type": "application/json"})
        try:
            names = [str(entry["name"]) for entry in reply.json()] if reply.status == 200 else []
        except (Broken, TypeError, KeyError):
            names = []
        if not names:
            raise ConfigError("the server doesn't list its models", hint="name them: --model NAME")
        return list(dict.fromkeys(names))


def model_path(model: str, version: str = "") -> str:
    """Give the address of a model, or of one of its versions."""
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path
