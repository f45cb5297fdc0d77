"""What an operator may ask of the control plane over HTTP, on a listener of its own."""

import time
from collections.abc import Callable
from typing import Any

from ferryman.core.errors import InputError
from ferryman.server.control.admin_json import answer, read, text, told
from ferryman.server.control.extension import Extension
from ferryman.server.control.repository import Repository
from ferryman.server.control.status import describe
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.http.request import Request, Response
from ferryman.server.data.v2.addresses import Route


def admin_routes(repository: Repository, plane: Dataplane, drain: Callable[[], None]) -> list[Route]:
    """Give the handlers of the admin listener; `drain` begins to stop the server."""
    started_s = time.monotonic()

    async def status(_: Request, __: dict[str, str]) -> Response:
        described = describe(repository, plane)
        return answer({"uptime_s": round(time.monotonic() - started_s, 3), **described})

    async def refresh(request: Request, _: dict[str, str]) -> Response:
        read(request)
        await repository.refresh()
        return answer(describe(repository, plane))

    async def begin_drain(request: Request, _: dict[str, str]) -> Response:
        read(request)
        drain()
        return answer({"draining": True}, 202)

    async def activate(request: Request, where: dict[str, str]) -> Response:
        asked = read(request, "version")
        if "version" not in asked:
            raise InputError("key 'version' is missing", hint='send {"version": "2"}, or null to follow the highest')
        version = text(asked, "version")
        if version is None:
            await repository.follow(where["model"])
        else:
            await repository.activate(where["model"], version, keep_old=False)
        return answer({"model": where["model"], "version": plane.active(where["model"]), "chosen": version})

    return [
        *repository_routes(Extension(repository)),
        ("GET", "/admin/status", told(status)),
        ("POST", "/admin/models/{model}/activate", told(activate)),
        ("POST", "/admin/refresh", told(refresh)),
        ("POST", "/admin/drain", told(begin_drain)),
    ]


def repository_routes(extension: Extension) -> list[Route]:
    """Give the handlers of the protocol's model repository extension."""

    async def index(request: Request, _: dict[str, str]) -> Response:
        rows = [row for row in extension.index() if row["name"] in request.reach]
        if read(request, "ready").get("ready"):
            rows = [row for row in rows if row["state"] == "READY"]
        return answer(rows)

    async def load(request: Request, where: dict[str, str]) -> Response:
        await extension.load(where["model"], _parameters(request))
        return answer({})

    async def unload(request: Request, where: dict[str, str]) -> Response:
        await extension.unload(where["model"], _parameters(request))
        return answer({})

    return [
        ("POST", "/v2/repository/index", told(index)),
        ("POST", "/v2/repository/models/{model}/load", told(load)),
        ("POST", "/v2/repository/models/{model}/unload", told(unload)),
    ]


def _parameters(request: Request) -> dict[str, Any]:  # JSON
    parameters = read(request, "parameters").get("parameters", {})
    if not isinstance(parameters, dict):
        raise InputError("'parameters' is no JSON object")
    return parameters
