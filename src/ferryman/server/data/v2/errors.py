"""What HTTP makes of errors."""

import logging
import math
import secrets

from ferryman.core.errors import (
    DeadlineExceeded,
    FerrymanError,
    Forbidden,
    NotFound,
    NotReady,
    Overloaded,
    RateLimited,
    TooLarge,
    Unauthorized,
    UserError,
)
from ferryman.server.data.http.request import Header, Response
from ferryman.server.data.v2.messages import to_json

_log = logging.getLogger("ferryman.server")


class Unsupported(UserError):
    """Refuse a request's content type."""


class WrongMethod(UserError):
    """Refuse a method at an address that takes others."""

    def __init__(self, method: str, path: str, allowed: str) -> None:
        super().__init__(f"{method[:20]} can't be used at {path[:80]!r}", hint=f"it takes {allowed}")
        self.allowed = allowed


_STATUS: tuple[tuple[type[FerrymanError], int], ...] = (
    (Unsupported, 415),
    (WrongMethod, 405),
    (UserError, 400),
    (Unauthorized, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (TooLarge, 413),
    (Overloaded, 429),
    (NotReady, 503),
    (DeadlineExceeded, 504),
)


def status_of(error: FerrymanError) -> int:
    """Give the status of an error; 500 for those that aren't a caller's business."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def error_response(message: str, status: int, headers: tuple[Header, ...] = (), *, closes: bool = False) -> Response:
    """Give the protocol's error object."""
    return Response(status, to_json({"error": message}), headers=headers, closes=closes)


def words_of(error: FerrymanError) -> str:
    """Give what callers are told of an error: what went wrong, and the way out."""
    return f"{error}; {error.hint}" if error.hint else str(error)


def refusal(error: FerrymanError) -> Response:
    """Give the answer to a request that failed."""
    status = status_of(error)
    if status == 500:
        return internal(error)
    headers: tuple[Header, ...] = ()
    if status in (429, 503):
        wait_s = error.retry_after_s if isinstance(error, RateLimited) else 1.0
        headers = ((b"retry-after", b"%d" % max(1, math.ceil(wait_s))),)
    elif status == 401:
        headers = ((b"www-authenticate", b'Bearer realm="ferryman"'),)
    elif isinstance(error, WrongMethod):
        headers = ((b"allow", error.allowed.encode()),)
    return error_response(words_of(error), status, headers, closes=status == 413)


def internal(error: BaseException) -> Response:
    """Give the answer to what was not foreseen: it is logged under an id, never shown."""
    incident = secrets.token_hex(6)
    _log.error("request failed (id %s)", incident, exc_info=error)
    return error_response(f"internal error (id {incident})", 500)
