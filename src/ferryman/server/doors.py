"""The ports of a server: for callers, and, on loopback, for what steers it. Each speaks HTTP/1.1 and gRPC."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ferryman import __version__
from ferryman.core.errors import ConfigError, UserError
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.gate.gate import Gate
from ferryman.server.data.grpc.call import Call
from ferryman.server.data.grpc.factory import GrpcConnections
from ferryman.server.data.grpc.infer import Answered, InferSettings
from ferryman.server.data.grpc.service import GrpcService, Outside, RepositoryControl
from ferryman.server.data.grpc.settings import GrpcSettings
from ferryman.server.data.http.connections import Connections
from ferryman.server.data.http.cors import Origins
from ferryman.server.data.http.intake import Intake
from ferryman.server.data.http.limits import Limits
from ferryman.server.data.http.listener import Listener, open_socket, url_of
from ferryman.server.data.http.tls import Certificate
from ferryman.server.data.v2.addresses import Route
from ferryman.server.data.v2.http import HttpV2, Rules
from ferryman.server.data.v2.journal import About, CallFacts, Journal
from ferryman.server.data.v2.pages import Pages
from ferryman.server.settings import UNIX, ServerSettings

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class House:
    """Hold what all doors of a server lead to."""

    plane: Dataplane
    pages: Pages
    journal: Journal
    intake: Intake
    settings: ServerSettings
    repository: RepositoryControl


class Door:
    """Listen on one port; opened at once, so that a port that can't be had stops a server before it loads anything."""

    def __init__(self, host: str, port: int, certificate: Certificate | None) -> None:
        self._certificate = certificate
        self._socket = open_socket(host, port)
        self.url = url_of(self._socket, is_tls=certificate is not None)
        self._listener: Listener | None = None
        self._application: HttpV2 | None = None
        self._connections: Connections | None = None
        self._grpc: GrpcConnections | None = None
        self._service: GrpcService | None = None

    async def start(self, house: House, gate: Gate, routes: Sequence[Route], *, is_admin: bool) -> None:
        """Begin to answer; `routes` are what the control plane offers here."""
        settings = house.settings
        rules = Rules(routes, settings.request_s, is_local=is_admin)
        self._application = application = HttpV2(house.plane, gate, house.pages, house.journal, rules)
        limits = Limits(body_bytes=settings.max_body_bytes, receive_s=settings.receive_s)
        connections = Connections(application, limits, house.intake, Origins(() if is_admin else settings.cors))
        connections.on_refused = house.journal.turned_away
        self._connections = connections
        outside = Outside(
            repository=house.repository,
            figures=house.journal.figures,
            finished=lambda call: _note(house.journal, call),
            refused=connections.refuse,
            infer=InferSettings(
                request_s=settings.request_s,
                begin=house.journal.begin,
                answered=lambda answered: _note_streamed(house.journal, answered),
            ),
        )
        self._service = GrpcService(house.plane, gate, outside, server_version=__version__)
        self._grpc = GrpcConnections(
            self._service,
            GrpcSettings(max_message_bytes=settings.max_body_bytes, receive_s=settings.receive_s, intake=house.intake),
        )
        tls = self._certificate.context if self._certificate is not None else None
        self._listener = Listener(self._socket, connections, http2=self._grpc, tls=tls)
        await self._listener.start()

    async def watch_certificate(self) -> None:
        """Meet new connections with new certificates as they come; runs until it is cancelled."""
        if self._certificate is not None and self._listener is not None:
            await self._certificate.watch(self._listener.use_tls)

    @property
    def open_connections(self) -> int:
        """Count the connections of all protocols."""
        return self._listener.open_connections if self._listener is not None else 0

    @property
    def expires_s(self) -> float | None:
        """Give the seconds until the certificate expires; None without TLS."""
        return self._certificate.expires_s if self._certificate is not None else None

    @property
    def refused(self) -> Counter[str]:
        """Count by kind what was refused before the application saw it, or saw it whole."""
        return self._connections.refused if self._connections is not None else Counter()

    def leave(self) -> None:
        """Ask clients, with each answer from now on, to come back on another connection."""
        if self._connections is not None:
            self._connections.is_draining = True

    async def drain(self, deadline_s: float) -> None:
        """Accept no more, and let what is in work be answered."""
        if self._listener is None:
            return
        if self._grpc is not None:
            self._grpc.drain()
        await self._listener.drain(deadline_s)

    def close(self) -> None:
        """Close the port and whatever is still open."""
        if self._grpc is not None:
            self._grpc.abort()
        if self._service is not None:
            self._service.close()
        if self._listener is not None:
            self._listener.stop_accepting()
        if self._application is not None:
            self._application.close()
        self._socket.close()


def open_doors(settings: ServerSettings, certificate: Certificate | None) -> tuple[Door, Door | None]:
    """Open the port for callers and, where it is wanted, the admin's; raises UserError for one that can't be had."""
    is_twice = settings.port == settings.admin_port != 0 and not settings.host.startswith(UNIX)
    if is_twice:
        raise ConfigError(
            f"port {settings.port} is asked for twice", hint="give --admin-port another number than --port, or off"
        )
    door = Door(settings.host, settings.port, certificate)
    if settings.admin_port is None:
        return door, None
    try:
        return door, Door(_LOOPBACK, settings.admin_port, None)
    except UserError as error:
        door.close()
        raise UserError(f"the admin's port: {error}", hint="--admin-port takes another number, 0 or off") from None


def _note(journal: Journal, call: Call) -> None:
    """Count and log one gRPC call."""
    caller = call.caller.id if call.caller is not None else ""
    journal.called(
        CallFacts(
            path=call.head.path, status=call.status, model=call.model, version=call.version, caller=caller,
            arrived_s=call.arrived_s, bytes_in=call.bytes_in, bytes_out=call.bytes_out,
            peer=call.connection.peer.address, request_id=call.request_id,
            is_inference=call.method is not None and call.method.name == "ModelInfer",
            trace_id=call.trace_id, span=call.span,
        ),
        call.error,
    )  # fmt: skip


def _note_streamed(journal: Journal, answered: Answered) -> None:
    """Count one request of a gRPC stream."""
    about = About(answered.model, answered.version, answered.request_id, span=answered.span)
    journal.streamed(about, answered.status, answered.error, time.monotonic() - answered.arrived_s)


def all_refused(doors: Sequence[Door]) -> dict[tuple[str, ...], float]:
    """Count what several doors refused."""
    counts = sum((door.refused for door in doors), Counter[str]())
    return {(kind,): float(count) for kind, count in counts.items()}


async def drain_all(doors: Sequence[Door], deadline_s: float) -> None:
    """Drain several doors at once."""
    await asyncio.gather(*(door.drain(deadline_s) for door in doors))
