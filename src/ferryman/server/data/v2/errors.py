"""What HTTP makes of errors."""

import math

from ferryman.core.errors import FerrymanError, UserError
from ferryman.server.data.http.head import Header
from ferryman.server.data.http.request import Response
from ferryman.server.data.signals.outcomes import told_as
from ferryman.server.data.telling import incident_of, retry_after_s, words_of
from ferryman.server.data.v2.messages import to_json


class Unsupported(UserError):
    """Refuse a request's content type."""


class WrongMethod(UserError):
    """Refuse a method at an address that takes others."""

    def __init__(self, method: str, path: str, allowed: str) -> None:
        super().__init__(f"{method[:20]} can't be used at '{path[:80]}'", hint=f"it takes {allowed}")
        self.allowed = allowed


_OWN: dict[type[FerrymanError], int] = {Unsupported: 415, WrongMethod: 405}


def status_of(error: FerrymanError) -> int:
    """Give the status of an error; 500 for those that aren't a caller's business."""
    return _OWN.get(type(error)) or told_as(error).http


def error_response(message: str, status: int, headers: tuple[Header, ...] = (), *, closes: bool = False) -> Response:
    """Give the protocol's error object."""
    return Response(status, to_json({"error": message}), headers=headers, closes=closes)


def refusal(error: FerrymanError) -> Response:
    """Give the answer to a request that failed."""
    status = status_of(error)
    if status == 500:
        return internal(error)
    headers: tuple[Header, ...] = ()
    wait_s = retry_after_s(error)
    if wait_s is not None:
        headers = ((b"retry-after", b"%d" % max(1, math.ceil(wait_s))),)
    elif status == 401:
        headers = ((b"www-authenticate", b'Bearer realm="ferryman"'),)
    elif isinstance(error, WrongMethod):
        headers = ((b"allow", error.allowed.encode()),)
    return error_response(words_of(error), status, headers, closes=status == 413)


def internal(error: BaseException) -> Response:
    """Give the answer to what was not foreseen: it is logged under an id, never shown."""
    return error_response(incident_of(error), 500)
