"""What HTTP makes of answers and errors."""

import logging
import secrets
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ferryman.core.errors import FerrymanError, NotFound, NotReady, Overloaded, TooLarge, UserError
from ferryman.server.data.v2.messages import to_json

Handler = Callable[[Request], Awaitable[Response]]


class Unsupported(UserError):
    """Refuse a request's content type."""


class Late(UserError):
    """Refuse a request whose body does not come."""


_STATUS: tuple[tuple[type[FerrymanError], int], ...] = (
    (Unsupported, 415),
    (Late, 408),
    (UserError, 400),
    (NotFound, 404),
    (TooLarge, 413),
    (Overloaded, 429),
    (NotReady, 503),
)
_RETRY_AFTER_S = "1"
_log = logging.getLogger("ferryman.server")


def json_response(payload: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Give a response of finished JSON."""
    return Response(payload, status, headers, media_type="application/json")


def error_response(message: str, status: int, headers: dict[str, str] | None = None) -> Response:
    """Give the protocol's error object."""
    return json_response(to_json({"error": message}), status, headers)


def guarded(handler: Handler) -> Handler:
    """Answer every error in the protocol's form; what was not foreseen is logged under an id, never shown."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except FerrymanError as error:
            status = next((status for kind, status in _STATUS if isinstance(error, kind)), None)
            return _internal(error) if status is None else _explained(error, status)
        except ClientDisconnect:
            return Response(status_code=499)  # the client has gone: nobody reads this
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            return _internal(error)

    return answer


async def answer_http_error(request: Request, error: Exception) -> Response:
    """Answer what the routes refuse: unknown paths, wrong methods."""
    if not isinstance(error, HTTPException):
        return _internal(error)
    message = error.detail
    if error.status_code == 404:
        paths = dict.fromkeys(route.path for route in request.app.routes if isinstance(route, Route))
        message = f"nothing is at {request.url.path!r:.80}; this server has {', '.join(paths)}"
    return error_response(message, error.status_code, dict(error.headers or {}))


def _explained(error: FerrymanError, status: int) -> Response:
    headers = {}
    if status in (429, 503):
        headers["Retry-After"] = _RETRY_AFTER_S
    if status in (408, 413):
        headers["Connection"] = "close"  # what is still on its way is not read
    return error_response(f"{error}; {error.hint}" if error.hint else str(error), status, headers)


def _internal(error: Exception) -> Response:
    incident = secrets.token_hex(6)
    _log.error("request failed (id %s)", incident, exc_info=error)
    return error_response(f"internal error (id {incident})", 500)
