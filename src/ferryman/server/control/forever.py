"""Work in the background that one failure must not end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

_log = logging.getLogger("ferryman.server")
_AFTER_FAILURE_S = 1.0  # so that what fails at once doesn't fill the log


async def forever(turn: Callable[[], Awaitable[None]], what: str, *, every_s: float = 0.0) -> NoReturn:
    """Take one turn after another, with a pause before each; what a turn raises is logged, and the next one comes."""
    while True:
        await asyncio.sleep(every_s)
        try:
            await turn()
        except Exception:  # noqa: BLE001 - whatever it was, models are to be looked after
            _log.exception("%s failed; it goes on", what)
            await asyncio.sleep(_AFTER_FAILURE_S)
