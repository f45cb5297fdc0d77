"""What an operator may ask of the control plane over HTTP, on a listener of its own."""

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ferryman.core.errors import FerrymanError, InputError, NotFound, UserError
from ferryman.server.control.repository import Repository
from ferryman.server.control.status import describe
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.http.request import Request, Response
from ferryman.server.data.v2.errors import internal, refusal

Handler = Callable[[Request, dict[str, str]], Awaitable[Response]]
Route = tuple[str, str, Handler]
"""Method, path with {names} in it, and who answers."""

_MOST_BYTES = 64 * 1024


def admin_routes(repository: Repository, plane: Dataplane, drain: Callable[[], None]) -> list[Route]:
    """Give the handlers of the admin listener; `drain` begins to stop the server."""
    started_s = time.monotonic()

    async def status(_: Request, __: dict[str, str]) -> Response:
        described = describe(repository, plane)
        return _answer({"uptime_s": round(time.monotonic() - started_s, 3), **described})

    async def refresh(request: Request, _: dict[str, str]) -> Response:
        _read(request)
        await repository.refresh()
        return _answer(describe(repository, plane))

    async def begin_drain(request: Request, _: dict[str, str]) -> Response:
        _read(request)
        drain()
        return _answer({"draining": True}, 202)

    async def activate(request: Request, where: dict[str, str]) -> Response:
        version = _text(_read(request, "version"), "version")
        if version is None:
            raise InputError("key 'version' is missing", hint='send {"version": "2"}')
        await repository.activate(where["model"], version, keep_old=False)
        return _answer({"model": where["model"], "version": version})

    return [
        *repository_routes(repository, plane),
        ("GET", "/admin/status", _told(status)),
        ("POST", "/admin/models/{model}/activate", _told(activate)),
        ("POST", "/admin/refresh", _told(refresh)),
        ("POST", "/admin/drain", _told(begin_drain)),
    ]


def repository_routes(repository: Repository, plane: Dataplane) -> list[Route]:
    """Give the handlers of the protocol's model repository extension."""

    async def index(request: Request, _: dict[str, str]) -> Response:
        rows = repository.index()
        if _read(request, "ready").get("ready"):
            rows = [row for row in rows if row["state"] == "READY"]
        return _answer(rows)

    async def load(request: Request, where: dict[str, str]) -> Response:
        version = _text(_parameters(request), "version")
        try:
            await repository.load(where["model"], version)
        except NotFound:
            raise
        except FerrymanError as error:  # 400 whatever it was: the caller asked for what can't be had
            raise UserError(f"failed to load '{where['model']}': {error}", hint=error.hint) from error
        return _answer({})

    async def unload(request: Request, where: dict[str, str]) -> Response:
        version = _text(_parameters(request), "version")
        await repository.unload(where["model"], version)
        return _answer({})

    return [
        ("POST", "/v2/repository/index", _told(index)),
        ("POST", "/v2/repository/models/{model}/load", _told(load)),
        ("POST", "/v2/repository/models/{model}/unload", _told(unload)),
    ]


def _told(handler: Handler) -> Handler:
    """Turn errors into answers."""

    async def answered(request: Request, where: dict[str, str]) -> Response:
        try:
            return await handler(request, where)
        except FerrymanError as error:
            return refusal(error)
        except Exception as error:  # noqa: BLE001 - the boundary of a request: logged, and told without its words
            return internal(error)

    return answered


def _read(request: Request, *known: str) -> dict[str, Any]:  # JSON
    if len(request.body) > _MOST_BYTES:
        raise InputError(f"the request has {len(request.body)} bytes", hint=f"at most {_MOST_BYTES} are read")
    try:
        asked = json.loads(bytes(request.body) or b"{}")
    except (ValueError, RecursionError) as error:
        raise InputError(f"the request is no JSON: {error}") from None
    if not isinstance(asked, dict):
        raise InputError("the request is no JSON object")
    if unknown := sorted(set(asked) - set(known)):
        raise InputError(f"unknown key '{unknown[0]}'", hint=f"keys that are taken here: {', '.join(known) or 'none'}")
    return asked


def _parameters(request: Request) -> dict[str, Any]:  # JSON
    """Read `parameters`; other servers' own (unload_dependents, config) ask for nothing that there is here."""
    parameters = _read(request, "parameters").get("parameters", {})
    if not isinstance(parameters, dict):
        raise InputError("'parameters' is no JSON object")
    if unknown := sorted(key for key in parameters if key == "config" or key.startswith("file:")):
        raise InputError(
            f"parameter '{unknown[0]}' is not supported", hint="a bundle says itself how it is served; build another"
        )
    return parameters


def _text(values: dict[str, Any], key: str) -> str | None:  # JSON
    value = values.get(key)
    if value is not None and not (isinstance(value, str) and 0 < len(value) <= 200):
        raise InputError(f"key '{key}' must be text")
    return value


def _answer(value: object, status: int = 200) -> Response:
    return Response(status, json.dumps(value).encode())
