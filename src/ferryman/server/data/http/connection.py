"""One HTTP/1.1 connection: bytes to requests, answers to bytes, one request in work at a time."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

from ferryman.core.errors import FerrymanError, Overloaded
from ferryman.server.data.http.chunks import Chunks
from ferryman.server.data.http.connections import Connections
from ferryman.server.data.http.head import END, Head, Refusal, check_start
from ferryman.server.data.http.reply import CONTINUE, refusal
from ferryman.server.data.http.request import Request, Response

_FRESH, _IDLE, _HEAD, _BODY, _WORK, _SKIP, _LINGER, _CLOSED = range(8)
_SKIPPED_BYTES = 64 * 1024  # so much of a refused body is read to keep the connection
_LINGER_BYTES = 64 * 1024 * 1024  # so much is read, and thrown away, so that a refused client gets to read why
_CLOSE = b"connection: close\r\n"
_KEEP = b"connection: keep-alive\r\n"

_log = logging.getLogger("ferryman.server")


class HttpConnection(asyncio.Protocol):
    """Speak HTTP/1.1 with one client."""

    __slots__ = (
        "_body", "_buffer", "_certificate", "_head", "_held", "_house", "_is_paused", "_is_reading", "_is_stalled",
        "_loop", "_peer", "_phase", "_request", "_since_s", "_skip", "_stalled_until_s", "_transport",
    )  # fmt: skip

    def __init__(self, house: Connections) -> None:
        self._house = house
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._phase = _FRESH
        self._since_s = 0.0
        self._buffer = b""  # came, and not looked at
        self._head: Head | None = None
        self._request: Request | None = None  # admitted, and neither answered nor forgotten
        self._body: Chunks | Sized | None = None
        self._held = 0  # bytes counted by the intake
        self._skip = 0
        self._is_reading = False
        self._is_paused = False
        self._is_stalled = False
        self._stalled_until_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; also where another protocol had the connection until now."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else "unix"
        self._certificate: Any = transport.get_extra_info("peercert") or None  # ssl's own dict
        self._since_s = self._loop.time()
        self._house.members.add(self)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        phase = self._phase
        if phase <= _HEAD:
            self._read(self._buffer + data if self._buffer else data)
        elif phase == _BODY:
            self._read_body(data)
        elif phase == _WORK:
            self._buffer += data
            self._pause()
        else:
            self._throw_away(data)

    def eof_received(self) -> bool | None:
        """Take the end of the client's words for its leaving: nobody could tell the two apart."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was in work."""
        self._phase = _CLOSED
        self._buffer = b""
        self._house.members.discard(self)
        self._forget()

    def pause_writing(self) -> None:
        """Know that the client doesn't read."""
        limits = self._house.limits
        patience_s = limits.send_s + self._transport.get_write_buffer_size() / limits.slowest_bytes_per_s
        self._stalled_until_s = self._loop.time() + patience_s
        self._is_stalled = True

    def resume_writing(self) -> None:
        """Know that it does again."""
        self._is_stalled = False
        self._since_s = self._loop.time()
        self._read_on()

    # What the sweep and the listener ask.

    def sweep(self, now_s: float) -> None:
        """End what is over one of its times."""
        limits = self._house.limits
        waited_s = now_s - self._since_s
        phase = self._phase
        if self._is_stalled:
            if now_s > self._stalled_until_s:
                self.abort()
        elif phase == _IDLE:
            if waited_s > limits.keep_alive_s:
                self._transport.close()
        elif phase == _BODY:
            if waited_s > limits.receive_s or (waited_s > limits.slow_start_s and self._is_slow(waited_s)):
                self._refuse(408, f"the body did not come within {limits.receive_s:g} s, or too slowly")
        elif phase == _HEAD:
            if waited_s > limits.header_s:
                self._refuse(408, f"the headers did not come within {limits.header_s:g} s")
        elif (phase == _FRESH and waited_s > limits.header_s) or (phase > _WORK and waited_s > limits.linger_s):
            self.abort()

    def close_idle(self, idle_s: float) -> None:
        """Close if nothing is in work and nothing came for so long."""
        if self._phase <= _IDLE and self._loop.time() - self._since_s >= idle_s:
            self._transport.close()

    def abort(self) -> None:
        """End at once, whatever is in work."""
        self._transport.abort()

    # Requests.

    def _read(self, data: bytes) -> None:
        """Read requests until one is in work or not whole."""
        self._is_reading = True
        while data and self._phase <= _HEAD and not self._is_stalled:
            end = data.find(END)
            if end < 0 or data[0] < 32:
                data = self._wait_for_head(data)
                break
            end += 4
            self._buffer = data[end:]
            try:
                head = self._house.head(data[:end])
            except Refusal as error:
                self._refuse(error.status, str(error))
                break
            self._begin(head)
            data, self._buffer = self._buffer, b""
        self._buffer = data
        self._is_reading = False
        if data and self._phase > _HEAD:
            self._pause()
