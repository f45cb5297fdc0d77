"""One HTTP/2 connection (RFC 9113), the server's side, as far as gRPC needs it; hostile until shown otherwise."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast

from ferryman.core.errors import DeadlineExceeded
from ferryman.server.data.grpc import frames
from ferryman.server.data.grpc.call import Call, Method
from ferryman.server.data.grpc.control import ControlFrames
from ferryman.server.data.grpc.frames import ConnectionFault
from ferryman.server.data.grpc.head import Head, HeadReader
from ferryman.server.data.grpc.outbox import Outbox
from ferryman.server.data.grpc.peer import Peer, peer_of
from ferryman.server.data.grpc.reader import FrameReader
from ferryman.server.data.grpc.settings import GrpcSettings
from ferryman.server.data.grpc.status import Unimplemented, plain_http
from ferryman.server.data.http.refused import HTTP2, Refused

_BUFFER_BYTES: Final = 1024 * 1024


class Service(Protocol):
    """Answer calls."""

    def method(self, path: str) -> Method | None:
        """Give who answers calls of a path."""

    def let_in(self, call: Call, method: Method) -> None:
        """Raise FerrymanError for callers who may not call this at all, before anything of a message is taken."""

    def finished(self, call: Call) -> None:
        """Know that a call is over."""

    def refused(self, refused: Refused) -> None:
        """Know of what was refused before it was a call, or ended in the middle of one."""


class GrpcConnection(ControlFrames, asyncio.Protocol):
    """Read frames, keep the rules, and hand calls to a service."""

    def __init__(self, service: Service, settings: GrpcSettings, on_close: Callable[["GrpcConnection"], None]) -> None:
        super().__init__(settings)
        self.peer = Peer()
        self.is_closed = False
        self.last_heard_s = self.last_call_s = self.began_s = 0.0
        self._service = service
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._heads = HeadReader(settings.max_header_bytes)
        self._reader = FrameReader(self, settings.max_frame_bytes)
        self._window = frames.FIRST_WINDOW
        self._block: bytearray | None = None  # of headers whose CONTINUATION is due
        self._block_flags = self._block_id = 0
        self._buffered_bytes = 0
        self._taken_s = 0.0  # when the client last took something that waited for it
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
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are none by name
        self._transport.set_write_buffer_limits(high=_BUFFER_BYTES)
        self.peer = peer_of(transport)
        self.began_s = self.last_heard_s = self.last_call_s = self.now_s()
        self.outbox = Outbox(self._loop, self._transport)
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
        if self.is_closed:
            return
        self.outbox.is_held = True
        try:
            self._reader.feed(data)
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
        self._stop()
        self._on_close(self)

    def pause_writing(self) -> None:
        """Send no more answers, and take no more calls, until the client has read some."""
        self.outbox.is_paused = True
        self._taken_s, self._buffered_bytes = self.now_s(), self._transport.get_write_buffer_size()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self.outbox.is_paused = False
        self._transport.resume_reading()
        self.outbox.push_waiting()

    def drain(self) -> None:
        """Take no new calls, and close after the last answer."""
        if self.is_draining or self.is_closed:
            return
        self.is_draining = True
        if not self.has_settings:
            self.end(frames.NO_ERROR, "the server stops")
            return
        # The first allows calls that are on their way; the second, after them, says which was the last.
        self.outbox.put(frames.goaway_frame(frames.LARGEST_WINDOW, frames.NO_ERROR))
        self.ping()

    def end(self, code: int, reason: str) -> None:
        """Say why, and leave the closing to the client for `linger_s`.

        What it sends meanwhile is read and dropped: closed on it, a socket would answer with a reset, and the client
        might never read what came before.
        """
        if self.is_closed:
            return
        if code != frames.NO_ERROR:
            self.note_refused(code, reason)
        self.outbox.put(frames.goaway_frame(self.last_id, code, reason))
        self._stop()
        self.outbox.flush()
        self._taken_s, self._buffered_bytes = self.now_s(), self._transport.get_write_buffer_size()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def note_refused(self, code: int, reason: str, path: str = "") -> None:
        """Tell of a stream or the connection that is ended for what the client did."""
        self._service.refused(Refused(HTTP2, code, reason, self.peer.address, "GRPC", path))

    def abort(self) -> None:
        """Close without a word."""
        self._stop()
        self._transport.abort()

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.ping_sent_s = self.now_s()
        self.outbox.put(frames.frame(frames.PING, 0, 0, b"ferryman"))

    def is_stuck(self, before_s: float) -> bool:
        """Tell whether the client has taken nothing of what waits for it since `before_s`."""
        if not self.outbox.is_paused and not self.is_closed:
            return False
        buffered_bytes = self._transport.get_write_buffer_size()
        if buffered_bytes < self._buffered_bytes:
            self._taken_s = self.now_s()
        self._buffered_bytes = buffered_bytes
        return self._taken_s < before_s

    def forget(self, call: Call) -> None:
        """Know that a call is over."""
        self.idle_frames = 0
        self.outbox.forget(call)
        if self.calls.pop(call.id, None) is not None:
            if not call.has_ended:
                self.abandon(call.id)
            self._service.finished(call)
        if self.is_draining and not self.calls and not self.ping_sent_s and not self.is_closed:
            self.end(frames.NO_ERROR, "")

    def replenish(self, call: Call) -> None:
        """Let the client send more for a call, once half of what it may is used."""
        window = self.settings.stream_window_bytes
        if call.receive_window <= window // 2 and call.wants_more:
            self.outbox.put(frames.window_frame(call.id, window - call.receive_window))
            call.receive_window = window

    def _stop(self) -> None:
        self.is_closed = self._reader.is_stopped = True
        for call in list(self.calls.values()):
            call.close()

    def on_data_begin(self, size: int, padding: int, flags: int, stream_id: int) -> None:
        """Count bytes against the windows, and check that the call is open."""
        self._check_order(frames.DATA, stream_id)
        self._window -= size
        if self._window < 0:
            raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "more came than the connection's window allows")
        call = self.calls.get(stream_id)
        if call is None or call.has_ended:
            self.check_was_open(stream_id)
        else:
            call.receive_window -= size
            if call.receive_window < 0:
                self.reset(call, frames.FLOW_CONTROL_ERROR, "more came than the call's window allows")
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
            self.on_control_frame(kind, flags, stream_id, payload)

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
            self.reset(call, frames.PROTOCOL_ERROR, "the body is not as long as content-length says")
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
        if self.takes_no_more:
            self._refuse(stream_id, flags, frames.REFUSED_STREAM, "the server stops")
        elif len(self.calls) >= self.settings.max_streams:
            reason = f"the connection has {self.settings.max_streams} calls, and may have no more"
            self._refuse(stream_id, flags, frames.REFUSED_STREAM, reason)
        elif head.fault:
            self._refuse(stream_id, flags, frames.PROTOCOL_ERROR, head.fault)
        elif head.method != "POST" or not _is_grpc(head.content_type):
            self._answer_plainly(stream_id, flags, head)
        else:
            self._open(flags, stream_id, head)

    def _open(self, flags: int, stream_id: int, head: Head) -> None:
        self.last_call_s = self.last_heard_s
        call = self.calls[stream_id] = Call(self, stream_id, head, self.last_heard_s)
        try:
            call.open(self._allowed(call))
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            call.has_ended = bool(flags & frames.END_STREAM)
            call.fail(error)
            return
        if flags & frames.END_STREAM:
            self._end_of_call(stream_id)

    def _allowed(self, call: Call) -> Method:
        head = call.head
        method = self._service.method(head.path)
        if method is None:
            raise Unimplemented(
                f"nothing is at '{head.path:.80}'",
                hint="this server has the calls of inference.GRPCInferenceService and grpc.health.v1.Health",
            )
        if head.timeout_s is not None and head.timeout_s <= 0:
            raise DeadlineExceeded("the call's deadline is no time, or has passed")
        self._service.let_in(call, method)
        return method

    def _on_trailers(self, flags: int, stream_id: int) -> None:
        call = self.calls.get(stream_id)
        if call is None or call.has_ended:
            self.check_was_open(stream_id)
        elif not flags & frames.END_STREAM:
            self.reset(call, frames.PROTOCOL_ERROR, "trailers don't end the call")
            return
        self._end_of_call(stream_id)

    def _refuse(self, stream_id: int, flags: int, code: int, reason: str) -> None:
        self.note_refused(code, reason)
        self.annoy()
        if not flags & frames.END_STREAM:
            self.abandon(stream_id)
        self.outbox.put(frames.reset_frame(stream_id, code))

    def _answer_plainly(self, stream_id: int, flags: int, head: Head) -> None:
        """Answer what is no gRPC in HTTP's words."""
        status = 415 if head.method == "POST" else 405
        self.note_refused(status, "over HTTP/2 there is only gRPC here", head.path.partition("?")[0])
        self.annoy()
        block = plain_http(status)
        self.outbox.put(frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream_id, block))
        if not flags & frames.END_STREAM:
            self.abandon(stream_id)
            self.outbox.put(frames.reset_frame(stream_id, frames.NO_ERROR))


def _is_grpc(content_type: bytes) -> bool:
    rest = content_type.removeprefix(b"application/grpc")
    return rest != content_type and (not rest or rest.startswith((b";", b"+proto")))
