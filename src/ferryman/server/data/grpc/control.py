"""The frames that steer an HTTP/2 connection: windows, settings, pings, and goodbyes."""

from collections.abc import Callable
from typing import Final

from ferryman.server.data.grpc import frames
from ferryman.server.data.grpc.call import Call
from ferryman.server.data.grpc.frames import UINT32, ConnectionFault
from ferryman.server.data.grpc.outbox import Outbox
from ferryman.server.data.grpc.settings import GrpcSettings

_MOST_ABANDONED: Final = 4096


class ControlFrames:
    """Keep what the client says about the connection itself. All that is odd or too much raises ConnectionFault."""

    outbox: Outbox  # there once the connection is made

    def __init__(self, settings: GrpcSettings) -> None:
        self.settings = settings
        self.calls: dict[int, Call] = {}
        self.last_id = 0  # the client's latest stream
        self.abandoned: dict[int, None] = {}  # ended here while the client was still sending
        self.has_settings = False
        self.is_draining = False
        self.takes_no_more = False
        self.ping_sent_s = 0.0
        self.resets_left = settings.max_resets
        self.idle_frames = 0  # since the last answer

    def end(self, code: int, reason: str) -> None:
        """Say why and close."""
        raise NotImplementedError

    def note_refused(self, code: int, reason: str) -> None:
        """Tell of a stream or the connection that is ended for what the client did."""
        raise NotImplementedError

    def on_control_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Take a frame; unknown kinds are left alone, as the protocol asks."""
        if kind not in (frames.WINDOW_UPDATE, frames.RST_STREAM):
            self.annoy()
        handler = _HANDLERS.get(kind)
        if handler is not None:
            handler(self, flags, stream_id, payload)

    def annoy(self) -> None:
        """Count what costs us and brings the client nothing."""
        self.idle_frames += 1
        if self.idle_frames > self.settings.max_idle_frames:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

    def reset(self, call: Call, code: int, reason: str) -> None:
        """End a call without an answer."""
        self.note_refused(code, reason)
        self.outbox.put(frames.reset_frame(call.id, code))
        call.close()

    def abandon(self, stream_id: int) -> None:
        """Remember a stream that was ended here while its client was still sending."""
        if len(self.abandoned) >= _MOST_ABANDONED:
            del self.abandoned[next(iter(self.abandoned))]
        self.abandoned[stream_id] = None

    def check_was_open(self, stream_id: int) -> None:
        """Allow what was on its way to a stream that was ended here; nothing else may name one that isn't open."""
        if stream_id in self.abandoned:
            return
        if not stream_id & 1 or stream_id > self.last_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a frame names a stream that was never opened")
        raise ConnectionFault(frames.STREAM_CLOSED, "a frame names a stream that is closed")

    def _on_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "PRIORITY names no stream")
        if len(payload) != 5:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "PRIORITY has a wrong size")

    def _on_reset(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "RST_STREAM has a wrong size")
        if not stream_id & 1 or stream_id > self.last_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "RST_STREAM names a stream that was never opened")
        self.abandoned.pop(stream_id, None)
        self.resets_left -= 1
        if self.resets_left < 0:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "too many calls are given up")
        call = self.calls.get(stream_id)
        if call is not None:
            call.has_ended = True
            call.close()

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "SETTINGS names a stream")
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "SETTINGS has a wrong size")
        if flags & frames.ACK:
            if not self.has_settings:
                raise ConnectionFault(frames.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            return
        self.has_settings = True
        for key, value in frames.SETTING.iter_unpack(payload):
            self._apply(key, value)
        self.outbox.put(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self.outbox.push_waiting()

    def _apply(self, key: int, value: int) -> None:
        outbox = self.outbox
        if key == frames.INITIAL_WINDOW_SIZE:
            if value > frames.LARGEST_WINDOW:
                raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "a window is too large")
            more = value - outbox.first_window
            outbox.first_window = value
            for call in list(self.calls.values()):
                self._widen(call, more)
        elif key == frames.MAX_FRAME_SIZE:
            if not frames.SMALLEST_MAX_FRAME <= value <= frames.LARGEST_MAX_FRAME:
                raise ConnectionFault(frames.PROTOCOL_ERROR, "a frame can't be that large")
            outbox.max_frame = value
        elif key == frames.ENABLE_PUSH and value > 1:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")

    def _widen(self, call: Call, more: int) -> None:
        was_full = call.window <= 0
        call.window += more
        if call.window > frames.LARGEST_WINDOW:
            raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "a window is too large")
        if was_full and call.window > 0 and call.pending:
            self.outbox.waiting[call] = None

    def _on_push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ConnectionFault(frames.PROTOCOL_ERROR, "a client promises nothing")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "PING names a stream")
        if len(payload) != 8:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "PING has a wrong size")
        if not flags & frames.ACK:
            self.outbox.put(frames.frame(frames.PING, frames.ACK, 0, payload))
            return
        self.ping_sent_s = 0.0
        if self.is_draining:  # all that was sent before the client heard of it is here
            self.takes_no_more = True
            self.outbox.put(frames.goaway_frame(self.last_id, frames.NO_ERROR))
            if not self.calls:
                self.end(frames.NO_ERROR, "")

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id or len(payload) < 8:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "GOAWAY makes no sense")
        self.is_draining, self.ping_sent_s = True, 0.0
        if not self.calls:
            self.end(frames.NO_ERROR, "")

    def _on_window(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "WINDOW_UPDATE has a wrong size")
        more = UINT32.unpack(payload)[0] & 0x7FFFFFFF
        if not stream_id:
            self.outbox.window += more
            if not more or self.outbox.window > frames.LARGEST_WINDOW:
                code = frames.FLOW_CONTROL_ERROR if more else frames.PROTOCOL_ERROR
                raise ConnectionFault(code, "the connection's window can't grow by that")
            self.outbox.push_waiting()
            return
        call = self.calls.get(stream_id)
        if call is None:
            if not stream_id & 1 or stream_id > self.last_id:
                raise ConnectionFault(frames.PROTOCOL_ERROR, "WINDOW_UPDATE names a stream that was never opened")
        elif not more or call.window + more > frames.LARGEST_WINDOW:
            code = frames.FLOW_CONTROL_ERROR if more else frames.PROTOCOL_ERROR
            self.reset(call, code, "the call's window can't grow by that")
        else:
            self._widen(call, more)
            self.outbox.push_waiting()


_HANDLERS: Final[dict[int, Callable[[ControlFrames, int, int, bytes], None]]] = {
    frames.PRIORITY: ControlFrames._on_priority,
    frames.RST_STREAM: ControlFrames._on_reset,
    frames.SETTINGS: ControlFrames._on_settings,
    frames.PUSH_PROMISE: ControlFrames._on_push_promise,
    frames.PING: ControlFrames._on_ping,
    frames.GOAWAY: ControlFrames._on_goaway,
    frames.WINDOW_UPDATE: ControlFrames._on_window,
}
