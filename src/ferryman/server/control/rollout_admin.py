"""The rollouts' part of the admin interface: JSON in, JSON out."""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from ferryman.core.errors import ConfigError, FerrymanError, NotFound, NotReady, UserError
from ferryman.server.control.rollout import Rollouts
from ferryman.server.control.rollout_moves import Conflict
from ferryman.server.control.rollout_plan import read_plan
from ferryman.server.control.rollout_record import Record
from ferryman.server.data.http.request import Request, Response

Handler = Callable[[Request, dict[str, str]], Awaitable[Response]]
Route = tuple[str, str, Handler]

_MOST_BYTES = 64 * 1024
_MOST_DIGITS = 200  # of a version's label
_STATUS: tuple[tuple[type[FerrymanError], int], ...] = (
    (Conflict, 409),
    (NotFound, 404),
    (NotReady, 503),
    (UserError, 400),
)

_log = logging.getLogger("ferryman.rollout")


def rollout_routes(rollouts: Rollouts) -> list[Route]:
    """Give method, pattern and handler of each request about rollouts; they belong on the admin listener."""

    async def listed(_request: Request, _parameters: dict[str, str]) -> Response:
        return _answer(200, {"rollouts": rollouts.status()})

    async def shown(_request: Request, parameters: dict[str, str]) -> Response:
        return _answer(200, rollouts.status(parameters["model"])[0])

    async def started(request: Request, parameters: dict[str, str]) -> Response:
        asked = _read(request, known=("version", "plan"))
        version = asked.get("version")
        if not isinstance(version, str) or not 0 < len(version) <= _MOST_DIGITS:
            raise ConfigError(
                "key 'version' must be text: the version to roll out", hint='{"version": "2", "plan": {}}'
            )
        plan = read_plan(json.dumps(asked.get("plan") or {}))
        await rollouts.start(parameters["model"], version, plan)
        return _answer(202, rollouts.status(parameters["model"])[0])

    def act(move: Callable[[str], Awaitable[Record]]) -> Handler:
        async def acted(request: Request, parameters: dict[str, str]) -> Response:
            _read(request, known=())
            await move(parameters["model"])
            return _answer(200, rollouts.status(parameters["model"])[0])

        return acted

    one = "/admin/rollouts/{model}"
    return [
        ("GET", "/admin/rollouts", _told(listed)),
        ("GET", one, _told(shown)),
        ("POST", one, _told(started)),
        ("POST", f"{one}/promote", _told(act(rollouts.promote))),
        ("POST", f"{one}/back", _told(act(rollouts.back))),
        ("POST", f"{one}/pause", _told(act(rollouts.pause))),
        ("POST", f"{one}/resume", _told(act(rollouts.unpause))),
    ]


def _told(handler: Handler) -> Handler:
    """Turn errors into answers."""

    async def answered(request: Request, parameters: dict[str, str]) -> Response:
        try:
            return await handler(request, parameters)
        except FerrymanError as error:
            status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
            if status == 500:
                _log.error("%s %s: %s", request.method, request.path, error)
            return _answer(status, {"error": str(error), **({"hint": error.hint} if error.hint else {})})

    return answered


def _read(request: Request, *, known: tuple[str, ...]) -> dict[str, Any]:  # JSON
    if len(request.body) > _MOST_BYTES:
        raise ConfigError(f"the request has {len(request.body)} bytes; at most {_MOST_BYTES} are read")
    try:
        asked = json.loads(bytes(request.body) or b"{}", parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the request is no JSON: {error}") from None
    if not isinstance(asked, dict):
        raise ConfigError("the request is no JSON object")
    if unknown := sorted(set(asked) - set(known)):
        takes = ", ".join(known) or "none"
        raise ConfigError(f"unknown key '{unknown[0]}'", hint=f"keys that are taken here: {takes}")
    return asked


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _answer(status: int, value: object) -> Response:
    return Response(status, json.dumps(value, allow_nan=False).encode())
