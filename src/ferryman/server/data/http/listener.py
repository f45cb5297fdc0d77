"""Open the port, and hand each connection to the protocol that its first bytes speak."""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import stat
from collections.abc import Callable

from ferryman.core.errors import UserError
from ferryman.core.service_manager import HANDED, handed_socket
from ferryman.server.data.http.connections import Connections
from ferryman.server.data.http.handshakes import Handshakes
from ferryman.server.data.http.sniff import Sniffer

_BACKLOG = 2048
_ANY_INTERFACE = ("", "0.0.0.0", "::")  # noqa: S104 - names of what a user may ask for
_LOOK_S = 0.02
_PROBE_S = 1.0

Factory = Callable[[], asyncio.Protocol]


def open_socket(host: str, port: int) -> socket.socket:
    """Open a port, 0 for any free one, or a Unix socket where the host is "unix:PATH".

    "systemd" takes the socket that a service manager opened. Raises UserError where it can't be had.
    """
    if host == HANDED:
        return handed_socket()
    if host.startswith("unix:"):
        return _open_path(host.removeprefix("unix:"))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        is_elsewhere = getattr(error, "errno", None) == errno.EADDRNOTAVAIL
        hint = "--host takes an address of this machine" if is_elsewhere else "choose another port; 0 picks one"
        raise UserError(f"can't listen on {host} port {port}: {reason}", hint=hint) from None
    return listening


def url_of(listening: socket.socket, *, is_tls: bool) -> str:
    """Give the address to ask a server at."""
    if listening.family == socket.AF_UNIX:
        return f"unix:{listening.getsockname()}"
    scheme = "https" if is_tls else "http"
    host, port = listening.getsockname()[:2]
    if host in _ANY_INTERFACE:
        host = "localhost"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class Listener:
    """Accept connections of one socket; `http2` makes the protocol for those that speak HTTP/2, if any is served.

    The socket is the listener's from now on.
    """

    def __init__(
        self,
        listening: socket.socket,
        connections: Connections,
        *,
        http2: Factory | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        listening.setblocking(False)
        self._listening = listening
        self._connections = connections
        self._http2 = http2
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._handshakes: Handshakes | None = None
        self._taking: set[asyncio.Task[object]] = set()  # what the kernel had accepted when the port closed

    async def start(self) -> None:
        """Begin to accept."""
        loop = asyncio.get_running_loop()
        self._connections.start(loop)
        if self._tls is not None:
            self._handshakes = Handshakes(self._listening, self._connections, self._protocol, self._tls)
            return
        make = loop.create_unix_server if self._listening.family == socket.AF_UNIX else loop.create_server
        own = self._listening.dup()
        own.setblocking(False)
        self._server = await make(self._protocol, sock=own, backlog=_BACKLOG)

    async def use_tls(self, context: ssl.SSLContext) -> None:
        """Meet new connections with this context; those that are open keep theirs, and none is lost between."""
        if self._handshakes is not None:
            self._handshakes.context = context

    @property
    def open_connections(self) -> int:
        """Count the connections of all protocols."""
        return self._connections.count()

    def stop_accepting(self) -> None:
        """Refuse new connections from now on, after those that the kernel has accepted already."""
        if self._listening.fileno() < 0 or (self._server is None and self._handshakes is None):
            return
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._handshakes is not None:
            self._handshakes.stop()
        with contextlib.suppress(BlockingIOError, OSError):
            while True:
                accepted, _ = self._listening.accept()
                self._take(accepted)
        if self._listening.family == socket.AF_UNIX:
            with contextlib.suppress(OSError):
                os.unlink(self._listening.getsockname())
        self._listening.close()

    async def drain(self, deadline_s: float, *, idle_s: float = 0.25) -> bool:
        """Accept no more, close each connection with its answer or when it was idle for so long.

        Handshakes go on to their own limit. Gives whether all had ended before the deadline; those that had not are
        aborted.
        """
        loop = asyncio.get_running_loop()
        end_s = loop.time() + deadline_s
        self._connections.is_draining = True
        self.stop_accepting()
        while self._is_in_use() and loop.time() < end_s:
            self._connections.close_idle(idle_s)
            await asyncio.sleep(_LOOK_S)
        in_time = not self._is_in_use()
        self._connections.abort()
        if self._handshakes is not None:
            self._handshakes.abort()
        self._connections.stop()
        return in_time

    def _is_in_use(self) -> bool:
        shaking = self._handshakes.under_way if self._handshakes is not None else 0
        return bool(self.open_connections or shaking or self._taking)

    def _protocol(self) -> asyncio.Protocol:
        return Sniffer(self._connections, self._http2)

    def _take(self, accepted: socket.socket) -> None:
        if self._handshakes is not None:
            self._handshakes.take(accepted)
            return
        loop = asyncio.get_running_loop()
        taking: asyncio.Task[object] = loop.create_task(loop.connect_accepted_socket(self._protocol, accepted))
        self._taking.add(taking)
        taking.add_done_callback(self._taken)

    def _taken(self, task: asyncio.Task[object]) -> None:
        self._taking.discard(task)
        if not task.cancelled():
            task.exception()  # who has left by then is nobody's concern


def _open_path(path: str) -> socket.socket:
    if not path:  # the system would make up a name that nobody knows
        raise UserError("unix: needs a path", hint="--host unix:/run/ferryman.sock")
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.stat(path).st_mode) and not _is_answered(path):
            os.unlink(path)  # left behind by a server that was killed
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(path)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise UserError(f"can't listen on unix:{path}: {error.strerror or error}", hint="choose another path") from None
    return listening


def _is_answered(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)  # one whose queue is full would let the start wait for ever
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
    return True
