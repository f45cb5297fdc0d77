"""Write one line of JSON for each request."""

import json
import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

ACCESS_LOG = "ferryman.access"
_log = logging.getLogger(ACCESS_LOG)


class AccessLog:
    """Log method, path, status and seconds of each request; the path without its query."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and log it when it is answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            seconds = round(time.perf_counter() - started_s, 6)
            line = {"method": scope["method"], "path": scope["path"], "status": status, "seconds": seconds}
            _log.info(json.dumps(line))
