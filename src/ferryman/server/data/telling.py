"""What callers are told of an error, in every protocol."""

import logging
import secrets

from ferryman.core.errors import FerrymanError, NotReady, Overloaded, RateLimited

_log = logging.getLogger("ferryman.server")


def words_of(error: FerrymanError) -> str:
    """Say what went wrong, and the way out."""
    return f"{error}; {error.hint}" if error.hint else str(error)


def retry_after_s(error: BaseException) -> float | None:
    """Give the seconds after which trying again makes sense; None where it never does."""
    if isinstance(error, RateLimited):
        return error.retry_after_s
    return 1.0 if isinstance(error, Overloaded | NotReady) else None


def incident_of(error: BaseException) -> str:
    """Log what was not foreseen under an id; gives the words with that id, which say nothing else."""
    incident = secrets.token_hex(6)
    _log.error("request failed (id %s)", incident, exc_info=error)
    return f"internal error (id {incident})"
