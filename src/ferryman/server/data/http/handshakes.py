"""Accept the connections of a TLS port, and know of the handshakes that fail: asyncio's own servers tell nobody."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from ferryman.server.data.http.connections import Connections
from ferryman.server.data.http.refused import TLS, Refused

_AT_ONCE = 64  # connections that are accepted before the loop does something else
_PAUSE_S = 0.2  # where no file is left for another connection
_log = logging.getLogger("ferryman.server")


class Handshakes:
    """Accept from one socket; each new connection is met with `context` as it is then."""

    def __init__(
        self,
        listening: socket.socket,
        connections: Connections,
        protocol: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
    ) -> None:
        self.context = context
        self._listening = listening
        self._connections = connections
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._shaking: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._is_out = False  # of files, since all who came were accepted
        self._accept_on()

    @property
    def under_way(self) -> int:
        """Count the handshakes that have not ended."""
        return len(self._shaking)

    def stop(self) -> None:
        """Accept no more; handshakes under way go on."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listening)

    def abort(self) -> None:
        """End the handshakes that are under way."""
        for task in self._shaking:
            task.cancel()

    def take(self, accepted: socket.socket) -> None:
        """Shake hands on a connection, unless there are too many with it."""
        accepted.setblocking(False)
        peer = _peer_of(accepted)
        if self._is_full():
            accepted.close()
            self._connections.refuse(Refused(TLS, 0, "too many connections and handshakes", peer))
            return
        task = self._loop.create_task(self._shake(accepted, peer))
        self._shaking.add(task)
        task.add_done_callback(self._shaking.discard)

    def _is_full(self) -> bool:
        house = self._connections
        room = house.limits.connections - len(self._shaking)
        return len(house.members) + len(house.handed) >= room and house.count() >= room

    def _accept_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                self._is_out = False
                return
            except OSError as error:
                if not self._is_out:
                    _log.error("no connection can be accepted for now: %s", error.strerror or error)
                self._is_out = True
                self._loop.remove_reader(self._listening)
                self._pause = self._loop.call_later(_PAUSE_S, self._accept_on)
                return
            self.take(accepted)

    async def _shake(self, accepted: socket.socket, peer: str) -> None:
        limit_s = self._connections.limits.header_s
        try:
            await self._loop.connect_accepted_socket(
                self._protocol, accepted, ssl=self.context, ssl_handshake_timeout=limit_s
            )
        except ConnectionResetError:
            return  # it left by itself, as who only looks whether the port is open does
        except OSError as error:
            self._connections.refuse(Refused(TLS, 0, f"the handshake failed: {_reason(error, limit_s)}", peer))


def _peer_of(accepted: socket.socket) -> str:
    if accepted.family == socket.AF_UNIX:
        return "unix"
    try:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return str(accepted.getpeername()[0])
    except OSError:  # it has left already
        return ""


def _reason(error: OSError, limit_s: float) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate is not good: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    if isinstance(error, ConnectionAbortedError | TimeoutError):
        return f"it took longer than {limit_s:g} s"
    return error.strerror or str(error)
