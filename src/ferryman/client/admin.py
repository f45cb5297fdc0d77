"""Steer a server through its admin address."""

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from ferryman.core.errors import ConfigError, FerrymanError, NotFound, NotReady, UserError

_ERRORS: dict[int, type[FerrymanError]] = {400: UserError, 404: NotFound, 409: UserError, 503: NotReady}
_UNKNOWN = {401: "it wants a key", 403: "this key may not steer it"}


class Admin:
    """Ask a server's admin interface; each question has a connection of its own.

    `token` is an API key, for a server that wants one. What the server refuses comes back as UserError, NotFound or
    NotReady.
    """

    def __init__(self, url: str, *, timeout_s: float = 60.0, token: str = "") -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if parts.scheme not in ("http", "https") or not host or parts.path.strip("/") or parts.query:
            raise ConfigError(f"{url!r} is not an admin address", hint="http://HOST:PORT, as ferryman serve tells it")
        self._url = f"{parts.scheme}://{parts.netloc}"
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port, self._timeout_s = host, port, timeout_s
        self._headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}

    def rollouts(self) -> list[dict[str, Any]]:  # JSON
        """Describe every rollout."""
        listed = self._ask("GET", "/admin/rollouts").get("rollouts")
        if not isinstance(listed, list):
            raise FerrymanError(f"{self._url} gave no list of rollouts", hint="is it the admin address?")
        return listed

    def rollout(self, model: str) -> dict[str, Any]:  # JSON
        """Describe one model's rollout."""
        return self._ask("GET", _path(model))

    def start_rollout(self, model: str, version: str, plan: Mapping[str, object]) -> dict[str, Any]:  # JSON
        """Begin a rollout; the version is still loading when this returns."""
        return self._ask("POST", _path(model), {"version": version, "plan": dict(plan)})

    def move_rollout(self, model: str, move: str) -> dict[str, Any]:  # JSON
        """Have a rollout promoted, taken back, paused or resumed."""
        return self._ask("POST", f"{_path(model)}/{move}", {})

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:  # JSON
        connection = self._kind(self._host, self._port, timeout=self._timeout_s)
        try:
            payload = None if body is None else json.dumps(body, allow_nan=False)
            connection.request(method, path, payload, self._headers)
            response = connection.getresponse()
            status, text = response.status, response.read()
        except ValueError as error:
            raise ConfigError(f"this can't be sent as JSON: {error}") from None
        except ConnectionRefusedError:
            raise NotReady(
                f"nobody listens at {self._url}", hint="is it the admin address that ferryman serve tells?"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise NotReady(f"{self._url} can't be asked: {error!r}", hint="is the server running?") from None
        finally:
            connection.close()
        return self._read(status, text)

    def _read(self, status: int, text: bytes) -> dict[str, Any]:  # JSON
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise FerrymanError(f"{self._url} says {status} and no JSON object", hint="is it the admin address?")
        if status < http.client.BAD_REQUEST:
            return answer
        kind = _ERRORS.get(status, FerrymanError)
        hint = str(answer.get("hint", "")) or _UNKNOWN.get(status, "")
        raise kind(str(answer.get("error", f"{self._url} says {status}")), hint=hint)


def _path(model: str) -> str:
    return f"/admin/rollouts/{quote(model, safe='')}"
