"""Tell HTTP/1.1 from HTTP/2 by what a connection says first."""

import asyncio
import ssl
from collections.abc import Callable

from ferryman.server.data.http.connection import HttpConnection
from ferryman.server.data.http.connections import Connections
from ferryman.server.data.http.refused import Refused
from ferryman.server.data.http.reply import refusal
from ferryman.server.data.http.wire import has_unread, peer_of

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Sniffer(asyncio.Protocol):
    """Read a connection's first bytes and hand it over, with them, to the protocol that they speak."""

    def __init__(self, connections: Connections, http2: Callable[[], asyncio.Protocol] | None) -> None:
        self._connections = connections
        self._http2 = http2
        self._start = b""
        self._since_s = 0.0
        self._is_refused = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse where there are too many."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's own class, a Transport in all but name
        self._since_s = asyncio.get_running_loop().time()
        house, most = self._connections, self._connections.limits.connections
        if len(house.members) + len(house.handed) >= most and house.count() >= most:
            self._refuse()
        self._connections.join(self)
        if self._http2 is not None and _spoken(transport) == "h2" and not self._is_refused:
            self._hand_over_http2(self._http2, b"")

    def data_received(self, data: bytes) -> None:
        """Look at what came first."""
        if self._is_refused:
            return
        self._start += data
        if self._http2 is None or not self._start.startswith(_PREFACE[: len(self._start)]):
            self._hand_over(HttpConnection(self._connections), self._start)
        elif len(self._start) >= len(_PREFACE):
            self._hand_over_http2(self._http2, self._start)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave."""
        self._connections.members.discard(self)

    def sweep(self, now_s: float) -> None:
        """End a connection that says nothing."""
        limits = self._connections.limits
        if now_s - self._since_s > (limits.linger_s if self._is_refused else limits.header_s):
            self.abort()

    def close_idle(self, idle_s: float) -> None:
        """Close a connection that has said nothing for so long."""
        if asyncio.get_running_loop().time() - self._since_s >= idle_s and not has_unread(self._transport):
            self._transport.close()

    def abort(self) -> None:
        """End at once."""
        self._transport.abort()

    def _hand_over_http2(self, http2: Callable[[], asyncio.Protocol], start: bytes) -> None:
        self._connections.handed.add(self._transport)
        self._hand_over(http2(), start)

    def _hand_over(self, protocol: asyncio.Protocol, start: bytes) -> None:
        self._connections.members.discard(self)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if start:
            protocol.data_received(start)

    def _refuse(self) -> None:
        self._is_refused = True
        reason = f"this server has {self._connections.limits.connections} connections, and no more"
        self._connections.refuse(Refused("503", 503, reason, peer_of(self._transport)))
        response = refusal(503, reason)
        self._transport.writelines(self._connections.renderer.render(response, b"connection: close\r\n", is_head=False))
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()


def _spoken(transport: asyncio.BaseTransport) -> str | None:
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    return tls.selected_alpn_protocol() if tls is not None else None
