"""The part of an HTTP/1.1 connection that knows no requests: its times, its end, and what is thrown away."""

import asyncio
import fcntl
import termios
from typing import Any

from ferryman.server.data.http.connections import Connections
from ferryman.server.data.http.head import Header
from ferryman.server.data.http.reply import refusal

FRESH, IDLE, HEAD, BODY, WORK, SKIP, LINGER, CLOSED = range(8)  # what a connection does; in this order
CLOSE = b"connection: close\r\n"
_LINGER_BYTES = 64 * 1024 * 1024  # so much is read, and thrown away, so that a refused client gets to read why


def has_unread(transport: asyncio.BaseTransport) -> bool:
    """Tell whether the client has said something that nobody has read: to close then would lose a request."""
    link = transport.get_extra_info("socket")
    if link is None or link.fileno() < 0:
        return False
    try:
        return fcntl.ioctl(link.fileno(), termios.FIONREAD, bytes(4)) != bytes(4)
    except OSError:
        return False


def peer_of(transport: asyncio.BaseTransport) -> str:
    """Give the address of who is at the other end."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else "unix"


class Wire(asyncio.Protocol):
    """Keep one connection within its limits."""

    __slots__ = (
        "_at", "_buffer", "_certificate", "_house", "_is_paused", "_is_reading", "_is_stalled", "_loop", "_peer",
        "_phase", "_since_s", "_skip", "_stalled_until_s", "_transport",
    )  # fmt: skip

    def __init__(self, house: Connections) -> None:
        self._house = house
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._phase = FRESH
        self._since_s = 0.0
        self._buffer = b""  # came, and not looked at...
        self._at = 0  # ...from here on, while requests are read
        self._skip = 0
        self._is_reading = False
        self._is_paused = False
        self._is_stalled = False
        self._stalled_until_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; also where another protocol had the connection until now."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's own class, a Transport in all but name
        self._peer = peer_of(transport)
        self._certificate: Any = transport.get_extra_info("peercert") or None  # ssl's own dict
        self._since_s = self._loop.time()
        self._house.members.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was in work."""
        self._phase = CLOSED
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

    def sweep(self, now_s: float) -> None:
        """End what is over one of its times."""
        waited_s = now_s - self._since_s
        if self._is_stalled:
            if now_s > self._stalled_until_s:
                self.abort()
        elif self._phase == BODY:
            limits = self._house.limits
            if waited_s > limits.receive_s or (waited_s > limits.slow_start_s and self._is_slow(waited_s)):
                self._refuse(408, f"the body did not come within {limits.receive_s:g} s, or it came too slowly")
        elif self._phase != WORK and waited_s > self._patience_s():
            self._give_up()

    def _patience_s(self) -> float:
        limits = self._house.limits
        if self._phase == IDLE:
            return limits.keep_alive_s
        return limits.header_s if self._phase <= HEAD else limits.linger_s

    def _give_up(self) -> None:
        if self._transport.is_closing():
            self.abort()
        elif self._phase == HEAD:
            self._refuse(408, f"the headers did not come within {self._house.limits.header_s:g} s")
        elif self._phase != IDLE or not has_unread(self._transport):
            self._close()

    def close_idle(self, idle_s: float) -> None:
        """Close if nothing is in work and nothing came for so long."""
        if (
            self._phase in (FRESH, IDLE, LINGER)
            and not self._is_stalled
            and self._loop.time() - self._since_s >= idle_s
            and (self._phase == LINGER or not has_unread(self._transport))
        ):
            self._close()

    def abort(self) -> None:
        """End at once, whatever is in work."""
        self._transport.abort()

    def _refuse(self, status: int, message: str, *headers: Header) -> None:
        """Refuse what nobody can find the end of, and close."""
        self._note_refused(status, message)
        self._forget()
        parts = self._house.renderer.render(refusal(status, message, *headers), CLOSE, is_head=False)
        self._transport.writelines(parts)
        self._since_s = self._loop.time()
        self._close_softly()

    def _close_softly(self) -> None:
        """End the connection so that the client gets to read the answer: unread bytes would take it away."""
        if self._transport.is_closing():
            return
        self._buffer = b""
        self._at = 0
        is_whole = self._phase == WORK
        self._phase, self._skip = LINGER, _LINGER_BYTES
        if self._transport.can_write_eof():
            self._transport.write_eof()
        elif is_whole:  # TLS can't close one way; there is nothing on its way that would matter
            self._close()

    def _close(self) -> None:
        """End the connection, in a while even where the client never takes the rest of its answer."""
        self._phase, self._since_s = LINGER, self._loop.time()
        self._transport.close()

    def _throw_away(self, data: bytes) -> None:
        """Read what nobody wants."""
        self._skip -= len(data)
        if self._skip > 0:
            return
        if self._phase != SKIP:
            self._close()
            return
        self._phase = IDLE
        if self._skip < 0:
            self._buffer = data[self._skip :]
        if not self._is_reading:
            self._read()

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def _read(self) -> None:
        raise NotImplementedError

    def _read_on(self) -> None:
        raise NotImplementedError

    def _note_refused(self, status: int, reason: str) -> None:
        raise NotImplementedError

    def _forget(self) -> None:
        raise NotImplementedError

    def _is_slow(self, waited_s: float) -> bool:
        raise NotImplementedError
