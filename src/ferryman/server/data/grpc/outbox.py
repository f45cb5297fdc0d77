"""What a connection sends: collected through one turn of the loop, held back where the client's windows are full."""

import asyncio
from collections import deque
from typing import Final, Protocol

from ferryman.server.data.grpc.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FIRST_WINDOW,
    FRAME_HEADER,
    HEADERS,
    NO_ERROR,
    SMALLEST_MAX_FRAME,
    frame,
    reset_frame,
)

Part = bytes | bytearray | memoryview
_TURN_BYTES: Final = 64 * 1024  # one call's, before another one's
_JOINED_BYTES: Final = 64 * 1024  # copying less than that is cheaper than many parts in a system call


class Speaker(Protocol):
    """Be a call, as far as sending goes. `last_block` is what ends it, once that is known."""

    id: int
    window: int
    pending: deque[memoryview]
    pending_bytes: int
    last_block: bytes | None
    has_ended: bool

    def on_sent(self) -> None:
        """Know that nothing waits any more."""

    def close(self) -> None:
        """Know that all was said."""


class Outbox:
    """Send frames of one connection. `window` is what its client takes of all calls together, in bytes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self.window = FIRST_WINDOW
        self.first_window = FIRST_WINDOW  # a new call's
        self.max_frame = SMALLEST_MAX_FRAME
        self.is_paused = False
        self.is_held = False  # while a batch of frames is read: what it brings about is sent together
        self.waiting: dict[Speaker, None] = {}  # for the connection's window or its socket, not for their own windows
        self._loop = loop
        self._transport = transport
        self._parts: list[Part] = []
        self._is_scheduled = False

    def put(self, *parts: Part) -> None:
        """Send bytes, at the latest at the end of this turn of the loop."""
        self._parts += parts
        if not self.is_held and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what was collected."""
        self._is_scheduled = False
        parts = self._parts
        if not parts or self._transport.is_closing():
            parts.clear()
            return
        self._parts = []
        if len(parts) == 1:
            self._transport.write(parts[0])
        elif sum(map(len, parts)) <= _JOINED_BYTES:
            self._transport.write(b"".join(parts))
        else:
            self._transport.writelines(parts)

    def push(self, call: Speaker) -> None:
        """Send what a call has to say as far as the windows allow, the rest when they open."""
        while call.pending:
            if self.is_paused or self.window <= 0:
                self.waiting[call] = None
                return
            if call.window <= 0:
                return
            self._send_some(call)
        self._end(call)

    def push_waiting(self) -> None:
        """Go on with calls that wait, in turns."""
        while self.waiting and self.window > 0 and not self.is_paused:
            call = next(iter(self.waiting))
            del self.waiting[call]
            sent = 0
            while call.pending and sent < _TURN_BYTES and min(self.window, call.window) > 0:
                sent += self._send_some(call)
            if not call.pending:
                self._end(call)
            elif call.window > 0:
                self.waiting[call] = None
            if sent and self.buffered() > 4 * _TURN_BYTES:
                self.flush()  # so that the transport can say that it is full

    def forget(self, call: Speaker) -> None:
        """Send nothing more for a call."""
        self.waiting.pop(call, None)

    def buffered(self) -> int:
        """Give the bytes collected and not yet handed to the transport."""
        return sum(map(len, self._parts))

    def _send_some(self, call: Speaker) -> int:
        """Send one DATA frame."""
        room = size = min(self.window, call.window, self.max_frame, call.pending_bytes)
        parts: list[Part] = [FRAME_HEADER.pack(size >> 8, size & 255, DATA, 0, call.id)]
        pending: deque[memoryview] = call.pending
        while room:
            part = pending[0]
            if len(part) <= room:
                pending.popleft()
            else:
                pending[0], part = part[room:], part[:room]
            room -= len(part)
            parts.append(part)
        self.window -= size
        call.window -= size
        call.pending_bytes -= size
        self.put(*parts)
        return size

    def _end(self, call: Speaker) -> None:
        if call.last_block is None:
            call.on_sent()
            return
        self.put(frame(HEADERS, END_HEADERS | END_STREAM, call.id, call.last_block))
        if not call.has_ended:
            self.put(reset_frame(call.id, NO_ERROR))  # what is still on its way isn't needed
        call.close()
