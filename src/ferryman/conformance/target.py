"""The server under examination: where it is, what it says of itself, and plain HTTP to it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ferryman.client import link
from ferryman.client.access import NOBODY, Access
from ferryman.conformance.broken import Broken, expect
from ferryman.core.errors import ConfigError

INDEX = "/v2/repository/index"


@dataclass(frozen=True, slots=True)
class Reply(link.Reply):
    """Hold one HTTP answer, and read its JSON."""

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

    `grpc` is HOST:PORT, empty where gRPC is not offered; `headers` go with every request, after those of `access`;
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
    access: Access = NOBODY

    def __post_init__(self) -> None:
        if "://" not in self.url:
            raise ConfigError(f"{self.url!r} is not a server's address", hint="http://HOST:PORT, or https://")
        link.read_url(self.url, "http://HOST:PORT, or https://")
        if "/" in self.grpc or (self.grpc and ":" not in self.grpc):
            raise ConfigError(
                f"{self.grpc!r} is no address of gRPC", hint="HOST:PORT; it speaks TLS where the URL does"
            )
        object.__setattr__(self, "headers", {**self.access.headers, **self.headers})

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
        """Give the server's metadata; raises what `ask` raises where there is no answer."""
        try:
            reply = self.ask("GET", "/v2")
            return reply.object() if reply.status == 200 else {}
        except Broken:
            return {}

    @property
    def extensions(self) -> frozenset[str]:
        """Give the extensions that the server announces."""
        announced = self.about.get("extensions")
        return frozenset(map(str, announced)) if isinstance(announced, list) else frozenset()

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """Send one request over a connection of its own; raises NotReady, or ConfigError for what can't work."""
        line = link.Link(urlsplit(self.url), timeout_s=self.timeout_s, access=self.access)
        try:
            answer = line.ask(method, path, body, {**self.headers, **(headers or {})})
        finally:
            line.close()
        return Reply(answer.status, answer.headers, answer.payload)

    def model_names(self) -> list[str]:
        """Give the names in the repository's index; raises ConfigError where the server has none."""
        reply = self.ask("POST", INDEX, b"{}", {"Content-Type": "application/json"})
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
