"""Ask clients to come back on another connection while the server stops."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ferryman.server.data.old_dataplane import Dataplane


class CloseWhileDraining:
    """End each connection with its answer once the dataplane drains, so that none is cut between two requests."""

    def __init__(self, app: ASGIApp, dataplane: Dataplane) -> None:
        self._app = app
        self._dataplane = dataplane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; while draining, add `Connection: close` to its answer."""

        async def add_close(message: Message) -> None:
            if message["type"] == "http.response.start" and self._dataplane.is_draining:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, add_close)
