"""How requests end: what an error is called in figures, and its status over HTTP and gRPC. No request can add one."""

from typing import NamedTuple

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
from ferryman.server.data.ask import Gone


class Outcome(NamedTuple):
    """Say what one kind of end is called, and its numbers."""

    word: str
    http: int
    grpc: int


FAILED, OTHER = "failed", "other"
_UNFORESEEN = Outcome(FAILED, 500, 13)
_OUTCOMES: dict[type[BaseException], Outcome] = {
    UserError: Outcome("invalid", 400, 3),
    Unauthorized: Outcome("unauthorized", 401, 16),
    Forbidden: Outcome("forbidden", 403, 7),
    NotFound: Outcome("not_found", 404, 5),
    TooLarge: Outcome("too_large", 413, 8),
    Overloaded: Outcome("overloaded", 429, 8),
    RateLimited: Outcome("rate_limited", 429, 8),
    Gone: Outcome("cancelled", 499, 1),  # nobody reads this status: it is for the log
    NotReady: Outcome("not_ready", 503, 14),
    DeadlineExceeded: Outcome("deadline", 504, 4),
}
OUTCOMES = frozenset({"ok", FAILED, *(outcome.word for outcome in _OUTCOMES.values())})
PROTOCOLS = frozenset({"http", "grpc", "websocket", "probe", OTHER})
REJECTIONS = (*sorted(OUTCOMES - {"ok"}), "malformed", "slow_client", "draining", OTHER)
RESTARTS = frozenset({"crash", "hang", "memory", "golden", "nonfinite", "start", OTHER})


def told_as(error: BaseException) -> Outcome:
    """Give what an error is: its own kind, or the nearest that it is one of; `failed` where that is no one's."""
    for kind in type(error).__mro__:
        if found := _OUTCOMES.get(kind):
            return found
        if kind is FerrymanError:
            break
    return _UNFORESEEN


def outcome_of(error: BaseException | None) -> str:
    """Name how a request ended; None is `ok`."""
    return "ok" if error is None else told_as(error).word
