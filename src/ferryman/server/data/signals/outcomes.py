"""The closed lists of words that label metrics: no request can add one."""

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

FAILED, CANCELLED, OTHER = "failed", "cancelled", "other"
_OUTCOMES: dict[type[BaseException], str] = {
    UserError: "invalid",
    NotFound: "not_found",
    NotReady: "not_ready",
    TooLarge: "too_large",
    RateLimited: "rate_limited",
    Overloaded: "overloaded",
    DeadlineExceeded: "deadline",
    Unauthorized: "unauthorized",
    Forbidden: "forbidden",
}
OUTCOMES = frozenset({"ok", FAILED, CANCELLED, *_OUTCOMES.values()})
PROTOCOLS = frozenset({"http", "grpc", "websocket", "probe", OTHER})
REJECTIONS = (*sorted(OUTCOMES - {"ok"}), "malformed", "slow_client", "draining", OTHER)
RESTARTS = frozenset({"crash", "hang", "memory", "golden", "nonfinite", "start", OTHER})


def outcome_of(error: BaseException | None) -> str:
    """Name how a request ended: None is `ok`, an error that is no one's on purpose is `failed`."""
    if error is None:
        return "ok"
    for kind in type(error).__mro__:
        if found := _OUTCOMES.get(kind):
            return found
        if kind is FerrymanError:
            break
    return FAILED
