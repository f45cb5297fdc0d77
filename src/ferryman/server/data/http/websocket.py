"""One open WebSocket (RFC 6455): frames to messages and back, with limits both ways."""

import asyncio
import base64
import binascii
import hashlib
import logging
from collections import deque
from typing import Protocol

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from ferryman.core.errors import Overloaded
from ferryman.server.data.http.head import Head, Refusal
from ferryman.server.data.http.intake import Intake
from ferryman.server.data.http.limits import Limits
from ferryman.server.data.http.request import Listener

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # the protocol's own
_REASON_BYTES = 123
_GOING_AWAY, _TOO_BIG, _FAILED, _TRY_LATER = 1001, 1009, 1011, 1013
_SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: %b\r\n\r\n"
)

_log = logging.getLogger("ferryman.server")


def accept_upgrade(head: Head) -> bytes:
    """Give the answer that opens a WebSocket; raises Refusal where the request is not one for it."""
    asked = dict(head.headers)
    tokens = [token.strip() for token in asked.get(b"connection", b"").lower().split(b",")]
    if head.method != "GET" or head.is_http_10 or head.length != 0 or b"upgrade" not in tokens:
        raise Refusal(400, "a WebSocket is opened with GET, HTTP/1.1, 'Connection: Upgrade' and no body")
    if asked.get(b"sec-websocket-version") != b"13":
        raise Refusal(426, "this server speaks version 13 of the WebSocket protocol")
    key = asked.get(b"sec-websocket-key", b"")
    try:
        is_key = len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        is_key = False
    if not is_key:
        raise Refusal(400, "sec-websocket-key is not 16 bytes in base64")
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()  # what the protocol asks for
    return _SWITCHING % base64.b64encode(digest)


class House(Protocol):
    """Be what the connections of one server share, as far as a WebSocket needs it."""

    limits: Limits
    intake: Intake

    def join(self, member: "WebSocket") -> None:
        """Count a connection."""

    def leave(self, member: "WebSocket") -> None:
        """Count it no more."""


class WebSocket(asyncio.Protocol):
    """Be the Stream of one listener. What is sent before `begin` goes out with it."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._limits = house.limits
        self._loop = asyncio.get_running_loop()
        self._frames = Connection(ConnectionType.SERVER)
        self._listener: Listener | None = None
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._ready: deque[str | bytes] = deque()  # whole messages that the application doesn't want yet
        self._partial = bytearray()
        self._heard_s = self._busy_s = self._loop.time()
        self._closing_s: float | None = None
        self._stalled_until_s: float | None = None
        self._is_pinged = False
        self._is_paused = False  # by the application
        self._is_held = False  # for the drain
        self._is_delivering = False

    def begin(self, transport: asyncio.Transport, listener: Listener, upgrade: bytes, received: bytes) -> None:
        """Answer the upgrade and speak frames from here on; `received` came behind the request."""
        self._transport = transport
        self._listener = listener
        self._house.join(self)
        transport.set_protocol(self)
        transport.writelines((upgrade, *self._early))
        self._early.clear()
        if self._is_paused:
            transport.pause_reading()
        if received:
            self.data_received(received)

    # The Stream that the application has.

    def send_text(self, text: str) -> None:
        """Send one text message."""
        self._busy_s = self._loop.time()
        self._send(TextMessage(text))

    def send_bytes(self, payload: bytes) -> None:
        """Send one binary message."""
        self._busy_s = self._loop.time()
        self._send(BytesMessage(payload))

    def pause(self) -> None:
        """Give no more messages for now, and read no more than what has come."""
        self._is_paused = True
        self._read_or_not()

    def resume(self) -> None:
        """Read on."""
        self._is_paused = False
        self._deliver()
        self._read_or_not()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye; the connection ends when the client has answered that, or soon."""
        if self._closing_s is None:
            self._closing_s = self._loop.time()
            short = reason.encode()[:_REASON_BYTES].decode(errors="ignore")
            self._send(CloseConnection(code, short))
            self._ready.clear()
            self._read_or_not()

    # What the loop calls.

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self._heard_s = self._loop.time()
        self._is_pinged = False
        try:
            self._frames.receive_data(data)
            for event in self._frames.events():
                self._take(event)
        except RemoteProtocolError as error:
            self._send(error.event_hint or CloseConnection(1002))
            self._end()
        except Overloaded as error:
            self.close(_TRY_LATER, str(error))
        self._deliver()
        self._read_or_not()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application."""
        self._transport = None
        self._house.leave(self)
        self._drop_partial()
        self._say_closed()

    def pause_writing(self) -> None:
        """Know that the client doesn't read; what it says has to wait, too, for its answers would wait here."""
        waiting = self._transport.get_write_buffer_size() if self._transport else 0
        patience_s = self._limits.send_s + waiting / self._limits.slowest_bytes_per_s
        self._stalled_until_s = self._loop.time() + patience_s
        self._read_or_not()

    def resume_writing(self) -> None:
        """Know that it reads again."""
        self._stalled_until_s = None
        self._read_or_not()

    # What the sweep and the listener ask.

    def sweep(self, now_s: float) -> None:
        """Ping a silent client, and end what is over one of its times."""
        silent_s = now_s - self._heard_s
        if self._stalled_until_s is not None:
            if now_s > self._stalled_until_s:
                self.abort()
        elif self._closing_s is not None:
            if now_s - self._closing_s > self._limits.linger_s:
                self.abort()
        elif self._is_paused or self._is_held:
            self._heard_s = now_s  # nobody listens
        elif silent_s > self._limits.ping_s + self._limits.pong_s:
            self.abort()
        elif silent_s > self._limits.ping_s and not self._is_pinged:
            self._is_pinged = True
            self._send(Ping())

    def close_idle(self, idle_s: float) -> None:
        """Take no more messages, and say that the server goes once no answer has left for so long."""
        self._is_held = True
        self._read_or_not()
        is_busy = self._listener is not None and self._listener.is_busy
        if not is_busy and self._loop.time() - max(self._busy_s, self._heard_s) >= idle_s:
            self.close(_GOING_AWAY, "the server stops")

    def abort(self) -> None:
        """End at once."""
        if self._transport is not None:
            self._transport.abort()

    def _take(self, event: Event) -> None:
        if isinstance(event, TextMessage | BytesMessage):
            self._take_part(event)
        elif isinstance(event, Ping):
            self._send(event.response())
        elif isinstance(event, CloseConnection):
            if self._closing_s is None:
                self._send(event.response())
            self._end()

    def _take_part(self, event: TextMessage | BytesMessage) -> None:
        """Put a message together. Raises Overloaded."""
        if self._closing_s is not None:
            return
        part = event.data.encode() if isinstance(event, TextMessage) else event.data
        if len(self._partial) + len(part) > self._limits.message_bytes:
            self.close(_TOO_BIG, f"a message is larger than {self._limits.message_bytes} bytes")
            self._drop_partial()
            return
        self._house.intake.take(len(part))
        self._partial += part
        if event.message_finished:
            whole = bytes(self._partial)
            self._ready.append(whole.decode() if isinstance(event, TextMessage) else whole)
            self._drop_partial()

    def _deliver(self) -> None:
        """Give the application what is whole, as long as it wants it."""
        if self._is_delivering or self._listener is None:
            return
        self._is_delivering = True
        try:
            while self._ready and not self._is_paused:
                self._busy_s = self._loop.time()
                self._listener.on_message(self._ready.popleft())
        except Exception as error:  # noqa: BLE001 - the boundary of a message
            _log.error("a message over a WebSocket failed", exc_info=error)
            self.close(_FAILED, "internal error")
        finally:
            self._is_delivering = False

    def _send(self, event: Event) -> None:
        if self._frames.state in (ConnectionState.CLOSED, ConnectionState.LOCAL_CLOSING):
            return  # nobody hears it any more
        try:
            frame = self._frames.send(event)
        except LocalProtocolError:
            return  # the client said goodbye first
        if self._transport is None:
            self._early.append(frame)
        else:
            self._transport.write(frame)

    def _end(self) -> None:
        self._say_closed()
        if self._closing_s is None:
            self._closing_s = self._loop.time()
        if self._transport is not None:
            self._transport.close()

    def _say_closed(self) -> None:
        listener, self._listener = self._listener, None
        self._ready.clear()
        if listener is not None:
            try:
                listener.on_close()
            except Exception as error:  # noqa: BLE001 - the boundary of a stream
                _log.error("closing a WebSocket failed", exc_info=error)

    def _drop_partial(self) -> None:
        self._house.intake.give_back(len(self._partial))
        self._partial = bytearray()

    def _read_or_not(self) -> None:
        if self._transport is None:
            return
        is_waiting = self._is_paused or self._is_held or self._stalled_until_s is not None
        if is_waiting and self._closing_s is None:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
