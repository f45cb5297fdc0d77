"""The rollouts' part of the admin interface: JSON in, JSON out."""

import json
from collections.abc import Awaitable, Callable

from ferryman.core.errors import InputError
from ferryman.server.control.admin_json import answer, read, text, told
from ferryman.server.control.rollout import Rollouts
from ferryman.server.control.rollout_plan import read_plan
from ferryman.server.control.rollout_record import Record
from ferryman.server.data.http.request import Request, Response
from ferryman.server.data.v2.addresses import Handler, Route


def rollout_routes(rollouts: Rollouts) -> list[Route]:
    """Give method, pattern and handler of each request about rollouts; they belong on the admin listener."""

    async def listed(_request: Request, _parameters: dict[str, str]) -> Response:
        return answer({"rollouts": rollouts.status()})

    async def shown(_request: Request, parameters: dict[str, str]) -> Response:
        return answer(rollouts.status(parameters["model"])[0])

    async def started(request: Request, parameters: dict[str, str]) -> Response:
        asked = read(request, "version", "plan")
        version = text(asked, "version")
        if version is None:
            raise InputError("key 'version' must be text", hint='{"version": "2", "plan": {}}')
        plan = read_plan(json.dumps(asked.get("plan") or {}))
        await rollouts.start(parameters["model"], version, plan)
        return answer(rollouts.status(parameters["model"])[0], 202)

    def act(move: Callable[[str], Awaitable[Record]]) -> Handler:
        async def acted(request: Request, parameters: dict[str, str]) -> Response:
            read(request)
            await move(parameters["model"])
            return answer(rollouts.status(parameters["model"])[0])

        return acted

    one = "/admin/rollouts/{model}"
    return [
        ("GET", "/admin/rollouts", told(listed)),
        ("GET", one, told(shown)),
        ("POST", one, told(started)),
        ("POST", f"{one}/promote", told(act(rollouts.promote))),
        ("POST", f"{one}/back", told(act(rollouts.back))),
        ("POST", f"{one}/pause", told(act(rollouts.pause))),
        ("POST", f"{one}/resume", told(act(rollouts.unpause))),
    ]
