"""All gRPC connections of a server: made, looked after by one timer, and ended."""

import asyncio

from ferryman.core.errors import DeadlineExceeded, NotReady
from ferryman.server.data.grpc import frames
from ferryman.server.data.grpc.call import Call
from ferryman.server.data.grpc.connection import GrpcConnection, Service
from ferryman.server.data.grpc.settings import GrpcSettings

_LAST_WORDS_S = 0.5


class GrpcConnections:
    """Make connections when called, as an asyncio server or a listener does; use from one event loop."""

    def __init__(self, service: Service, settings: GrpcSettings) -> None:
        self._loop = asyncio.get_running_loop()
        self._service = service
        self._settings = settings
        self._timer: asyncio.TimerHandle | None = None
        self._is_draining = False
        self.members: set[GrpcConnection] = set()

    def __call__(self) -> GrpcConnection:
        """Make one connection."""
        connection = GrpcConnection(self._service, self._settings, self._forget)
        self.members.add(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(self._settings.sweep_s, self._sweep)
        return connection

    def drain(self) -> None:
        """Tell all clients to call elsewhere, and close each connection after its last answer."""
        self._is_draining = True
        for connection in tuple(self.members):
            connection.drain()

    def abort(self) -> None:
        """End all of them, whatever is in work; clients have a moment to take what was said already."""
        for connection in tuple(self.members):
            connection.end(frames.NO_ERROR, "the server stops")
            self._loop.call_later(_LAST_WORDS_S, connection.abort)

    def _forget(self, connection: GrpcConnection) -> None:
        self.members.discard(connection)
        if not self.members and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        self._timer = self._loop.call_later(self._settings.sweep_s, self._sweep)
        now_s = self._loop.time()
        for connection in tuple(self.members):
            if self._is_draining:
                connection.drain()
            sweep(connection, self._settings, now_s)


def sweep(connection: GrpcConnection, settings: GrpcSettings, now_s: float) -> None:
    """End what is over one of its times on one connection."""
    connection.resets_left = min(
        settings.max_resets, connection.resets_left + round(settings.resets_per_s * settings.sweep_s)
    )
    if connection.is_stuck(now_s - (settings.linger_s if connection.is_closed else settings.send_s)):
        connection.abort()
    if connection.is_closed:
        return
    if not connection.is_established:
        if connection.began_s < now_s - settings.header_s:
            connection.end(frames.ENHANCE_YOUR_CALM, "the headers did not come in time")
        return
    for call in list(connection.calls.values()):
        _look_at(call, connection, settings, now_s)
    _look_for_life(connection, settings, now_s)


def _look_at(call: Call, connection: GrpcConnection, settings: GrpcSettings, now_s: float) -> None:
    if connection.is_draining and call.is_idle:
        call.fail(NotReady("the server is stopping", hint="ask another one"))
    elif call.is_receiving and call.quiet_since_s < now_s - settings.receive_s:
        call.fail(DeadlineExceeded(f"the message did not come within {settings.receive_s:g} s"))
    elif call.pending and call.quiet_since_s < now_s - settings.send_s:
        connection.reset(call, frames.CANCEL, f"the answer was not read within {settings.send_s:g} s")
    elif call.deadline_s < now_s:
        call.fail(DeadlineExceeded("the answer was not there in time"))


def _look_for_life(connection: GrpcConnection, settings: GrpcSettings, now_s: float) -> None:
    if connection.ping_sent_s:
        if max(connection.last_heard_s, connection.ping_sent_s) < now_s - settings.ping_timeout_s:
            connection.end(frames.NO_ERROR, "no sign of life")
            connection.abort()
    elif not connection.calls and connection.last_call_s < now_s - settings.idle_s:
        connection.drain()
    elif connection.last_heard_s < now_s - settings.ping_after_s:
        connection.ping()
