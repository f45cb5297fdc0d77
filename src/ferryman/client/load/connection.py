"""One HTTP/1.1 connection that costs little: whole requests out, the status of each answer back."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length:"
_CLOSE = b"\r\nconnection: close"
_CHUNKED = b"\r\ntransfer-encoding:"
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_MOST_HEAD_BYTES = 65536


class Connection(asyncio.Protocol):
    """Send one request at a time; the callback hears the status, or 0 where no whole answer came."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._heard: Callable[[int], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._received = bytearray()
        self._status = 0
        self._has_head = False
        self._body_left = 0
        self._is_chunked = False
        self._tail = b""
        self._closes = False

    @property
    def is_open(self) -> bool:
        """Tell whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes, heard: Callable[[int], None]) -> None:
        """Send a whole request; call only while no other one is under way."""
        self._heard = heard
        if self._transport is None or self._transport.is_closing():
            self._end(0)
            return
        self._transport.write(request)

    def give_up_at(self, when_s: float) -> None:
        """Close the connection at that time of the loop's clock unless the answer is there."""
        if self._heard is not None:
            self._timer = asyncio.get_running_loop().call_at(when_s, self.close)

    async def ask(self, request: bytes, *, timeout_s: float) -> int:
        """Send a request and give the answer's status, 0 where none came in time."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[int] = loop.create_future()
        self.send(request, lambda status: None if answer.done() else answer.set_result(status))
        self.give_up_at(loop.time() + timeout_s)
        return await answer

    def close(self) -> None:
        """End the connection; a request under way is lost."""
        if self._transport is not None:
            self._transport.abort()
        self._end(0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast(asyncio.Transport, transport)
        link = transport.get_extra_info("socket")
        if link is not None and link.family in (socket.AF_INET, socket.AF_INET6):
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, error: Exception | None) -> None:
        """Know that the other end has gone."""
        self._transport = None
        self._end(0)

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        if self._heard is None:
            self.close()  # nobody asked: a goodbye, which must not be taken for the next request's answer
            return
        if self._has_head:
            self._read_body(data)
            return
        self._received += data
        if (end := self._received.find(_HEAD_END)) >= 0:
            body = bytes(self._received[end + len(_HEAD_END) :])
            self._read_head(bytes(self._received[:end]).lower())
            self._read_body(body)
        elif len(self._received) > _MOST_HEAD_BYTES:
            self.close()

    def _read_head(self, head: bytes) -> None:
        self._has_head = True
        self._closes = _CLOSE in head
        self._is_chunked = _CHUNKED in head
        try:
            self._status = int(head[9:12])
            start = head.find(_LENGTH)
            self._body_left = int(head[start + len(_LENGTH) :].split(b"\r\n", 1)[0]) if start >= 0 else 0
        except ValueError:
            self._body_left = -1

    def _read_body(self, data: bytes) -> None:
        if self._is_chunked:
            self._tail = (self._tail + data)[-len(_LAST_CHUNK) :]
            self._body_left = 0 if self._tail.endswith(_LAST_CHUNK) else 1
        else:
            self._body_left -= len(data)
        if self._body_left < 0:
            self.close()  # more than was declared, or no length at all: this answer can't be believed
        elif self._body_left == 0:
            if self._closes and self._transport is not None:
                self._transport.close()
            self._end(self._status)

    def _end(self, status: int) -> None:
        heard, self._heard = self._heard, None
        self._received.clear()
        self._has_head = False
        self._tail = b""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if heard is not None:
            heard(status)
