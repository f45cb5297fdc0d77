"""What a path of the protocol means."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ferryman.core.errors import NotFound
from ferryman.server.data.http.request import Request, Response
from ferryman.server.data.v2.errors import WrongMethod

Verb = Literal["infer", "stream", "describe", "ready", "config", "stats", "page", "control"]
Handler = Callable[[Request, dict[str, str]], Awaitable[Response]]
Route = tuple[str, str, Handler]
"""A method, a path with {names} in it, and what answers there, errors too: how what steers a server is offered."""
_MOST_KEPT = 4096
_READS: dict[str, Verb] = {"": "describe", "ready": "ready", "config": "config", "stats": "stats", "stream": "stream"}


@dataclass(frozen=True, slots=True)
class Address:
    """Say what is asked for: a verb, and the model and version that it is about ("" and None for pages).

    To `infer` from "" is to ask the only model that there is.
    """

    verb: Verb
    model: str = ""
    version: str | None = None
    handler: Handler | None = None
    parameters: dict[str, str] = field(default_factory=dict)


class Addresses:
    """Read paths; those of models are remembered, since most requests come to the same few."""

    def __init__(
        self, pages: dict[str, tuple[str, ...]], routes: Sequence[Route] = (), only_model: Sequence[str] = ()
    ) -> None:
        """Take the server's own pages (path to methods), what steers it, and the paths of its one model."""
        self._pages = pages
        self._only_model = only_model
        self._routes = [(method, _compile(path), handler) for method, path, handler in routes]
        self._known: dict[tuple[str, str], Address] = {}

    def find(self, method: str, path: str) -> Address:
        """Give what a request means; raises NotFound and WrongMethod."""
        known = self._known.get((method, path))
        if known is not None:
            return known
        steering = self._steering(method, path)
        if steering is not None:
            return steering
        address, allowed = self._read(path)
        if method not in allowed:
            raise WrongMethod(method, path, ", ".join(allowed))
        if len(self._known) < _MOST_KEPT:
            self._known[method, path] = address
        return address

    def _steering(self, method: str, path: str) -> Address | None:
        allowed = []
        for known, pattern, handler in self._routes:
            if found := pattern.fullmatch(path):
                if known == method:
                    parameters = found.groupdict()
                    return Address("control", parameters.get("model", ""), None, handler, parameters)
                allowed.append(known)
        if allowed and path not in self._pages:
            raise WrongMethod(method, path, ", ".join(allowed))
        return None

    def _read(self, path: str) -> tuple[Address, tuple[str, ...]]:
        if path in self._only_model:
            return Address("infer"), ("POST",)
        if path in self._pages:
            return Address("page"), self._pages[path]
        parts = path.split("/")
        if parts[:3] == ["", "v2", "models"] and len(parts) > 3 and parts[3]:
            model, rest = parts[3], parts[4:]
            version = None
            if len(rest) >= 2 and rest[0] == "versions" and rest[1]:
                version, rest = rest[1], rest[2:]
            verb = "/".join(rest)
            if verb == "infer":
                return Address("infer", model, version), ("POST",)
            if verb in _READS:
                return Address(_READS[verb], model, version), ("GET", "HEAD")
        raise NotFound(f"nothing is at '{path[:80]}'", hint=self._way_from(path))

    def _way_from(self, path: str) -> str:
        if path.rstrip("/") == "/v2/models":
            return "POST /v2/repository/index lists the models"
        if path.endswith("/") and path.strip("/"):
            return f"perhaps {path.rstrip('/')[:80]}, without the last slash"
        return f"this server has {', '.join(self._pages)}, /v2/models/MODEL and, to POST to, /v2/models/MODEL/infer"


def _compile(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", path)
    return re.compile(
        "".join(f"(?P<{part}>[^/]+)" if place % 2 else re.escape(part) for place, part in enumerate(parts))
    )
