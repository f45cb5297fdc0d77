"""Receive a body of known length into memory of its own, straight from the socket."""

import asyncio
from collections.abc import Callable
from typing import Final

FIRST_BYTES: Final = 64 * 1024  # a declared length is only a promise: memory grows as it is kept
_ZEROS: Final = memoryview(bytes(1024 * 1024))


class SizedBody(asyncio.BufferedProtocol):
    """Have the connection's transport until the body is whole, then hand it back to `owner`.

    It holds `FIRST_BYTES` at first, or less; `may_grow` is asked for each part more, and ends it all where it says no.
    `done` is called with the body. It spares two copies of every byte, which is what a picture's tensors cost most.
    """

    def __init__(
        self,
        owner: asyncio.Protocol,
        length: int,
        may_grow: Callable[[int], bool],
        done: Callable[[bytearray], None],
    ) -> None:
        self.received = 0
        self._owner = owner
        self._may_grow = may_grow
        self._done = done
        self._length = length
        self._body = bytearray(min(length, FIRST_BYTES))
        self._growth = 0  # allowed, and not made yet
        self._transport: asyncio.Transport | None = None

    def begin(self, transport: asyncio.Transport, first: bytes) -> None:
        """Take the part that came with the headers, and then all that comes."""
        self._transport = transport
        self._hand_over(transport, self)
        while len(self._body) <= len(first):
            if not self._ask_for_more():
                return
            self._grow()
        self.received = len(first)
        self._body[: self.received] = first

    def leave(self) -> None:
        """Give the transport back to the owner."""
        if self._transport is not None:
            self._hand_over(self._transport, self._owner)
            self._transport = None

    def get_buffer(self, sizehint: int) -> memoryview:
        """Give the place for what comes next."""
        self._grow()  # here, as the transport holds the last place while it tells what came
        return memoryview(self._body)[self.received :]

    def buffer_updated(self, nbytes: int) -> None:
        """Count what came."""
        self.received += nbytes
        if self.received == self._length and self._transport is not None:
            self.leave()
            # The transport goes on referring to this, and this to the connection, whose transport it is: such a ring
            # is freed late, so it must not hold the body.
            body, self._body = self._body, bytearray()
            self._done(body)
        elif self.received == len(self._body):
            self._ask_for_more()

    def _ask_for_more(self) -> bool:
        size = len(self._body)
        more = min(3 * size, self._length - size, len(_ZEROS))
        self._growth = more if self._may_grow(more) else 0
        return self._growth > 0

    def _grow(self) -> None:
        if self._growth:
            self._body += _ZEROS[: self._growth]
            self._growth = 0

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
