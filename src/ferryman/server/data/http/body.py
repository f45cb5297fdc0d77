"""Receive a body of known length into memory of its own, straight from the socket."""

import asyncio
from collections.abc import Callable

_FIRST_BYTES = 1024 * 1024  # a declared length is only a promise: memory grows as it is kept


class SizedBody(asyncio.BufferedProtocol):
    """Have the connection's transport until the body is whole, then hand it back to `owner`.

    `done` is called with the body. It spares two copies of every byte, which is what a picture's tensors cost most.
    """

    def __init__(self, owner: asyncio.Protocol, length: int, done: Callable[[bytearray], None]) -> None:
        self.received = 0
        self._owner = owner
        self._done = done
        self._length = length
        self._body = bytearray(min(length, _FIRST_BYTES))
        self._transport: asyncio.Transport | None = None

    def begin(self, transport: asyncio.Transport, first: bytes) -> None:
        """Take the part that came with the headers, and then all that comes."""
        self.received = len(first)
        self._body[: self.received] = first
        self._transport = transport
        self._hand_over(transport, self)

    def leave(self) -> None:
        """Give the transport back to the owner."""
        if self._transport is not None:
            self._hand_over(self._transport, self._owner)
            self._transport = None

    def get_buffer(self, sizehint: int) -> memoryview:
        """Give the place for what comes next."""
        if self.received == len(self._body):
            self._body.extend(bytes(min(self.received, self._length - self.received)))
        return memoryview(self._body)[self.received :]

    def buffer_updated(self, nbytes: int) -> None:
        """Count what came."""
        self.received += nbytes
        if self.received == self._length and self._transport is not None:
            self.leave()
            self._done(self._body)

    def eof_received(self) -> bool | None:
        """Pass on."""
        return self._owner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on."""
        self._transport = None
        self._owner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        self._owner.resume_writing()

    @staticmethod
    def _hand_over(transport: asyncio.Transport, protocol: asyncio.BaseProtocol) -> None:
        # uvloop chooses how it reads when reading starts, so a protocol of the other kind needs a new start.
        transport.pause_reading()
        transport.set_protocol(protocol)
        transport.resume_reading()
