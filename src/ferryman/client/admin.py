"""Steer a server through its admin address."""

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ferryman.client.access import NOBODY, Access
from ferryman.client.link import Link, Reply, read_url, way_in
from ferryman.core.errors import ConfigError, FerrymanError, Forbidden, NotFound, NotReady, Unauthorized, UserError

_ERRORS: dict[int, type[FerrymanError]] = {
    400: UserError,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: UserError,
    503: NotReady,
}
_FORM = "http://HOST:PORT, as ferryman serve tells it"
_LIST = "/admin/rollouts"
_SILENCES = "/v1/monitor/silences"
_JSON = {"Content-Type": "application/json"}


class Admin:
    """Ask a server's admin interface; each question has a connection of its own.

    `access` says who asks, for a server that wants to know. What the server refuses comes back as UserError, NotFound,
    NotReady, Unauthorized or Forbidden.
    """

    def __init__(self, url: str, *, timeout_s: float = 60.0, access: Access = NOBODY) -> None:
        self._parts = read_url(url, _FORM, "an admin address")
        if self._parts.path.strip("/") or self._parts.query:
            raise ConfigError(f"{url!r} is not an admin address", hint=_FORM)
        self._link = Link(self._parts._replace(path=""), timeout_s=timeout_s, access=access)
        self._has_key = bool(access.key)

    def rollouts(self) -> list[dict[str, Any]]:  # JSON
        """Describe every rollout."""
        listed = self._ask("GET", _LIST).get("rollouts")
        if not isinstance(listed, list):
            raise FerrymanError(f"{self._link.url} gave no list of rollouts", hint="is it the admin address?")
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

    def status(self) -> dict[str, Any]:  # JSON
        """Describe every model with its versions, their bundles and their workers."""
        return self._ask("GET", "/admin/status")

    def activate(self, model: str, version: str) -> None:
        """Have a version be the active one, now, after a restart, and when a higher one comes."""
        self._ask("POST", f"/admin/models/{quote(model, safe='')}/activate", {"version": version})

    def actions(self) -> dict[str, Any]:  # JSON
        """Give what was done because of alerts (`actions`), and digests that nothing returns to (`rolled_back`)."""
        return self._ask("GET", "/v1/monitor/actions")

    def feedback(self, rows: Sequence[Mapping[str, object]]) -> dict[str, int]:
        """Tell what was true of items; gives how many were taken and replaced."""
        return self._ask("POST", "/v1/monitor/feedback", {"feedback": list(rows)})

    def performance(self) -> dict[str, Any]:  # JSON
        """Give how well each version does, as labels and confidences tell."""
        return self._ask("GET", "/v1/monitor/performance")

    def load(self, model: str) -> None:
        """Have a model looked for on the disk again, and its version of choice made the active one without a gap."""
        self._ask("POST", f"/v2/repository/models/{quote(model, safe='')}/load", {})

    def silences(self) -> dict[str, Any]:  # JSON
        """Give what mutes alerts: `silences`, and `maintenance` windows of the contract."""
        return self._ask("GET", _SILENCES)

    def silence(self, matchers: Mapping[str, str], *, for_s: float, author: str, comment: str) -> dict[str, Any]:
        """Mute the alerts that fit all matchers, for so many seconds; gives the silence (JSON) with its `id`."""
        asked = {"matchers": dict(matchers), "for_s": for_s, "author": author, "comment": comment}
        return self._ask("POST", _SILENCES, asked)

    def unsilence(self, silence_id: str) -> dict[str, Any]:  # JSON
        """End a silence; raises NotFound where there is none of that id."""
        return self._ask("DELETE", f"{_SILENCES}/{quote(silence_id, safe='')}")

    def live(self) -> dict[str, Any]:  # JSON
        """Give figures of now: /v1/monitor/live, as docs/monitoring/report.md describes it."""
        return self._ask("GET", "/v1/monitor/live")

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:  # JSON
        try:
            payload = b"" if body is None else json.dumps(body, allow_nan=False).encode()
        except ValueError as error:
            raise ConfigError(f"this can't be sent as JSON: {error}") from None
        return self._read(self._reply(method, path, payload))

    def _reply(self, method: str, path: str, payload: bytes) -> Reply:
        try:
            return self._link.ask(method, path, payload, _JSON)
        except NotReady as error:
            raise NotReady(str(error), hint=f"{error.hint}; --admin takes {_FORM}") from None
        finally:
            self._link.close()

    def _read(self, reply: Reply) -> dict[str, Any]:  # JSON
        try:
            answer = json.loads(reply.payload)
        except (ValueError, RecursionError):
            answer = None
        is_missing = reply.status == http.client.NOT_FOUND
        if not isinstance(answer, dict) or (is_missing and self._reply("GET", _LIST, b"").status == reply.status):
            raise self._not_there(reply.status)
        if reply.status < http.client.BAD_REQUEST:
            return answer
        kind = _ERRORS.get(reply.status, FerrymanError)
        hint = str(answer.get("hint", ""))
        if kind in (Unauthorized, Forbidden):
            hint = way_in(reply.status, has_key=self._has_key)
        raise kind(str(answer.get("error", f"{self._link.url} says {reply.status}")), hint=hint)

    def _not_there(self, status: int) -> UserError:
        """Say that somebody else answers: most often the port where everybody may ask."""
        port = self._parts.port
        usual = f"; it is the port after that one unless chosen: {port + 1}" if port is not None else ""
        return UserError(
            f"{self._link.url} is no admin address: it says {status}", hint=f"ferryman serve tells it when ready{usual}"
        )


def _path(model: str) -> str:
    return f"{_LIST}/{quote(model, safe='')}"
