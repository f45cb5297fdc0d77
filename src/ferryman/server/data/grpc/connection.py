"""One HTTP/2 connection (RFC 9113), the server's side, as far as gRPC needs it; hostile until shown otherwise."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from ferryman.server.data.grpc import frames
from ferryman.server.data.grpc.call import Call, Method
from ferryman.server.data.grpc.frames import FRAME_HEADER, PREFACE, UINT32, ConnectionFault
from ferryman.server.data.grpc.head import Head, HeadReader
from ferryman.server.data.grpc.outbox import Outbox
from ferryman.server.data.grpc.peer import Peer, peer_of
from ferryman.server.data.grpc.settings import GrpcSettings
from ferryman.server.data.grpc.status import Unimplemented, plain_http

_BUFFER_BYTES: Final = 1024 * 1024
_MOST_ABANDONED: Final = 4096
_COPIED_BYTES: Final = 4096


class Service(Protocol):
    """Answer calls."""

    def method(self, path: str) -> Method | None:
        """Give who answers calls of a path."""

    def finished(self, call: Call) -> None:
        """Know that a call is over."""


class GrpcConnection(asyncio.Protocol):
    """Read frames, keep the rules, and hand calls to a service."""

    def __init__(self, service: Service, settings: GrpcSettings, on_close: Callable[["GrpcConnection"], None]) -> None:
        self.settings = settings
        self.outbox: Outbox
        self.calls: dict[int, Call] = {}
        self.peer = Peer()
        self.is_draining = False
        self.is_closed = False
        self.last_heard_s = self.began_s = 0.0
        self.ping_sent_s = 0.0
        self.resets_left = settings.max_resets
        self._service = service
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._heads = HeadReader(settings.max_header_bytes)
        self._rest = bytearray(PREFACE[:0])
        self._need = len(PREFACE)
        self._has_preface = self.has_settings = False
        self._window = frames.FIRST_WINDOW
        self.last_id = 0
        self.abandoned: dict[int, None] = {}
        self._block: bytearray | None = None  # of headers whose CONTINUATION is due
        self._block_flags = self._block_id = 0
        self._data_id = self._data_left = self._data_flags = self._padding_left = 0
        self._in_data = False
        self._idle_frames = 0
        self._transport: asyncio.Transport

    def now_s(self) -> float:
        """Give the loop's time."""
        return self._loop.time()

    @property
    def is_established(self) -> bool:
        """Tell whether the client has said hello, and no block of headers is half here."""
        return self.has_settings and self._block is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_BUFFER_BYTES)
        self.peer = peer_of(transport)
        self.began_s = self.last_heard_s = self.now_s()
        self.outbox = Outbox(self._loop, transport)
        limits = self.settings
        hello = frames.settings_frame(
            {
                frames.MAX_CONCURRENT_STREAMS: limits.max_streams,
                frames.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
                frames.MAX_FRAME_SIZE: limits.max_frame_bytes,
                frames.MAX_HEADER_LIST_SIZE: limits.max_header_bytes,
            }
        )
        more = limits.connection_window_bytes - self._window
        self._window += more
        self.outbox.put(hello + frames.window_frame(0, more))

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self.last_heard_s = self.now_s()
        if self._rest or self._need:
            self._rest += data
            if len(self._rest) < self._need:
                return
            data, self._rest, self._need = bytes(self._rest), bytearray(), 0
        if self.is_closed:
            return
        self.outbox.is_held = True
        try:
            start = 0 if self._has_preface else self._read_preface(data)
            self._read(data, start)
        except ConnectionFault as fault:
            self.end(fault.code, str(fault))
        finally:
            self.outbox.is_held = False
            self.outbox.flush()

    def eof_received(self) -> bool:
        """Close, as gRPC has no use for half a connection."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Give up what runs."""
        self.is_closed = True
        for call in list(self.calls.values()):
            call.close()
        self._on_close(self)

    def pause_writing(self) -> None:
        """Send no more answers, and take no more calls, until the client has read some."""
        self.outbox.is_paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self.outbox.is_paused = False
        self._transport.resume_reading()
        self.outbox.push_waiting()

    def drain(self) -> None:
        """Take no new calls, and close after the last answer."""
        if not self.is_draining and not self.is_closed:
            self.is_draining = True
            # The first allows calls that are on their way; the second, after them, says which was the last.
            self.outbox.put(
                frames.goaway_frame(2**31 - 1, frames.NO_ERROR), frames.frame(frames.PING, 0, 0, b"draining")
            )
            self.ping_sent_s = self.ping_sent_s or self.now_s()

    def end(self, code: int, reason: str) -> None:
        """Say why and close."""
        if not self.is_closed:
            self.is_closed = True
            self.outbox.put(frames.goaway_frame(self.last_id, code, reason))
            self.outbox.flush()
            for call in list(self.calls.values()):
                call.close()
            self._transport.close()

    def abort(self) -> None:
        """Close without a word, as nobody reads."""
        self.is_closed = True
        self._transport.abort()

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.ping_sent_s = self.now_s()
        self.outbox.put(frames.frame(frames.PING, 0, 0, b"are-u-ok"))

    def buffered(self) -> int:
        """Give the bytes that the client has not taken yet."""
        return self._transport.get_write_buffer_size()

    def forget(self, call: Call) -> None:
        """Know that a call is over."""
        self._idle_frames = 0
        self.outbox.waiting.pop(call, None)
        if self.calls.pop(call.id, None) is not None:
            if not call.has_ended:
                self._abandon(call.id)
            self._service.finished(call)
        if self.is_draining and not self.calls and not self.ping_sent_s:
            self.end(frames.NO_ERROR, "")

    def replenish(self, call: Call) -> None:
        """Let the client send more for a call, once half of what it may is used."""
        window = self.settings.stream_window_bytes
        if call.receive_window <= window // 2 and call.wants_more:
            self.outbox.put(frames.window_frame(call.id, window - call.receive_window))
            call.receive_window = window

    def _abandon(self, stream_id: int) -> None:
        """Remember a call that was ended here while its client was still sending."""
        if len(self.abandoned) >= _MOST_ABANDONED:
            del self.abandoned[next(iter(self.abandoned))]
        self.abandoned[stream_id] = None

    def on_data_begin(self, size: int, padding: int, flags: int, stream_id: int) -> None:
        """Count bytes against the windows, and check that the call is open."""
        self._check_order(frames.DATA, stream_id)
        self._window -= size
        if self._window < 0:
            raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "more came than the connection's window allows")
        call = self.calls.get(stream_id)
        if call is None or call.has_ended:
            self._check_closed(stream_id)
        else:
            call.receive_window -= size
            if call.receive_window < 0:
                self.reset(call, frames.FLOW_CONTROL_ERROR)
        if size <= padding:
            self.annoy()

    def on_data(self, stream_id: int, chunk: bytes | memoryview) -> None:
        """Pass a part of a message on."""
        call = self.calls.get(stream_id)
        if call is not None and not call.has_ended:
            call.bytes_in += len(chunk)
            call.take(chunk)

    def on_data_end(self, flags: int, stream_id: int) -> None:
        """Open the windows again, and end the call where this was its last frame."""
        limits = self.settings
        if self._window <= limits.connection_window_bytes // 2:
            self.outbox.put(frames.window_frame(0, limits.connection_window_bytes - self._window))
            self._window = limits.connection_window_bytes
        if flags & frames.END_STREAM:
            self._end_of_call(stream_id)
        else:
            call = self.calls.get(stream_id)
            if call is not None:
                self.replenish(call)

    def on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Take a frame of another kind than DATA."""
        self._check_order(kind, stream_id)
        if kind == frames.HEADERS:
            self._on_headers(flags, stream_id, frames.without_padding(flags, payload))
        elif kind == frames.CONTINUATION:
            self._on_continuation(flags, stream_id, payload)
        else:
            on_control_frame(self, kind, flags, stream_id, payload)

    def _check_order(self, kind: int, stream_id: int) -> None:
        if self._block is not None and (kind != frames.CONTINUATION or stream_id != self._block_id):
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a block of headers was not ended")
        if not self.has_settings and kind != frames.SETTINGS:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "the first frame is not SETTINGS")

    def _end_of_call(self, stream_id: int) -> None:
        self.abandoned.pop(stream_id, None)
        call = self.calls.get(stream_id)
        if call is None or call.has_ended:
            return
        if call.head.length is not None and call.head.length != call.bytes_in:
            self.reset(call, frames.PROTOCOL_ERROR)
            return
        call.end()

    def _on_headers(self, flags: int, stream_id: int, block: bytes) -> None:
        if not stream_id & 1:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a client's streams have odd numbers")
        if flags & frames.END_HEADERS:
            self._on_block(flags, stream_id, block)
            return
        self._block, self._block_flags, self._block_id = bytearray(block), flags, stream_id
        self.began_s = self.last_heard_s  # the rest is due by then and `header_s`

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is None:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "CONTINUATION continues nothing")
        if not payload:
            self.annoy()
        self._block += payload
        if len(self._block) > self.settings.max_header_bytes:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "the headers are too large")
        if flags & frames.END_HEADERS:
            block, self._block = bytes(self._block), None
            self._on_block(self._block_flags, stream_id, block)

    def _on_block(self, flags: int, stream_id: int, block: bytes) -> None:
        """Open a call, or end one by its trailers. Every block is decoded, since all share one table."""
        head = self._heads.read(block)
        if stream_id <= self.last_id:
            self._on_trailers(flags, stream_id)
            return
        self.last_id = stream_id
        if len(self.calls) >= self.settings.max_streams:
            self._refuse(stream_id, frames.REFUSED_STREAM, flags)
        elif head.fault:
            self._refuse(stream_id, frames.PROTOCOL_ERROR, flags)
        elif head.method != "POST" or not _is_grpc(head.content_type):
            self._answer_plainly(stream_id, flags, head)
        else:
            self._open(flags, stream_id, head)

    def _open(self, flags: int, stream_id: int, head: Head) -> None:
        call = self.calls[stream_id] = Call(self, stream_id, head, self.last_heard_s)
        method = self._service.method(head.path)
        if method is None:
            call.has_ended = bool(flags & frames.END_STREAM)
            call.fail(Unimplemented(f"nothing is at {head.path!r:.80}"))
        elif head.timeout_s is not None and head.timeout_s <= 0:
            call.has_ended = bool(flags & frames.END_STREAM)
            call.late("the call's deadline is no time, or has passed")
        else:
            call.open(method)
            if flags & frames.END_STREAM:
                self._end_of_call(stream_id)

    def _on_trailers(self, flags: int, stream_id: int) -> None:
        call = self.calls.get(stream_id)
        if call is None or call.has_ended:
            self._check_closed(stream_id)
        elif not flags & frames.END_STREAM:
            self.reset(call, frames.PROTOCOL_ERROR)
            return
        self._end_of_call(stream_id)

    def _refuse(self, stream_id: int, code: int, flags: int) -> None:
        self.annoy()
        if not flags & frames.END_STREAM:
            self._abandon(stream_id)
        self.outbox.put(frames.reset_frame(stream_id, code))

    def _answer_plainly(self, stream_id: int, flags: int, head: Head) -> None:
        """Answer what is no gRPC in HTTP's words."""
        self.annoy()
        block = plain_http(415 if head.method == "POST" else 405)
        self.outbox.put(frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream_id, block))
        if not flags & frames.END_STREAM:
            self._abandon(stream_id)
            self.outbox.put(frames.reset_frame(stream_id, frames.NO_ERROR))

    def _check_closed(self, stream_id: int) -> None:
        """Allow what was on its way to a call that was ended here; nothing else may name a stream that isn't open."""
        if stream_id in self.abandoned:
            return
        if not stream_id & 1 or stream_id > self.last_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a frame names a stream that was never opened")
        raise ConnectionFault(frames.STREAM_CLOSED, "a frame names a stream that is closed")

    def reset(self, call: Call, code: int) -> None:
        """End a call without an answer."""
        self.annoy()
        self.outbox.put(frames.reset_frame(call.id, code))
        call.close()

    def annoy(self) -> None:
        """Count what costs us and brings the client nothing."""
        self._idle_frames += 1
        if self._idle_frames > self.settings.max_idle_frames:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")


def _is_grpc(content_type: bytes) -> bool:
    rest = content_type.removeprefix(b"application/grpc")
    return rest != content_type and (not rest or rest.startswith((b";", b"+proto")))
