"""Cut a connection's bytes into frames; a DATA frame's part is used as it comes, so that no frame needs a buffer."""

from typing import Final, Protocol

from ferryman.server.data.grpc import frames
from ferryman.server.data.grpc.frames import FRAME_HEADER, PREFACE, ConnectionFault

_COPIED_BYTES: Final = 4096  # smaller slices are quicker as copies than as views


class FrameSink(Protocol):
    """Take frames. Everything here may raise ConnectionFault."""

    def on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Take a whole frame of another kind than DATA."""

    def on_data_begin(self, size: int, padding: int, flags: int, stream_id: int) -> None:
        """Know that a DATA frame of `size` bytes, `padding` of them for nothing, begins."""

    def on_data(self, stream_id: int, chunk: bytes | memoryview) -> None:
        """Take a part of its payload."""

    def on_data_end(self, flags: int, stream_id: int) -> None:
        """Know that it is over."""


class FrameReader:
    """Read the client's preface, then frames."""

    def __init__(self, sink: FrameSink, max_frame_bytes: int) -> None:
        self.is_stopped = False
        self._sink = sink
        self._max_frame_bytes = max_frame_bytes
        self._rest = bytearray()
        self._need = len(PREFACE)
        self._has_preface = False
        self._in_data = False
        self._stream_id = self._flags = self._left = self._padding_left = 0

    def feed(self, data: bytes) -> None:
        """Take bytes; raises ConnectionFault where they are no frames."""
        if self._need:
            self._rest += data
            if not self._has_preface:
                self._check_preface()
            if len(self._rest) < self._need:
                return
            data, self._need = bytes(self._rest), 0
            self._rest.clear()
        start, end = 0, len(data)
        while not self.is_stopped:
            if self._in_data:
                start = self._read_data(data, start, end)
                if self._in_data:
                    return
            used = self._read_frame(data, start, end)
            if not used:
                return
            start += used

    def _check_preface(self) -> None:
        """Take the preface off what has come so far."""
        if self._rest[: len(PREFACE)] != PREFACE[: len(self._rest)]:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "this is not HTTP/2")
        if len(self._rest) >= len(PREFACE):
            self._has_preface, self._need = True, 0
            del self._rest[: len(PREFACE)]

    def _read_frame(self, data: bytes, start: int, end: int) -> int:
        """Read a frame, or the start of a DATA frame, and give its length; 0 where more has to come first."""
        if end - start < frames.HEADER_BYTES:
            return self._wait(data, start, frames.HEADER_BYTES)
        upper, lower, kind, flags, stream_id = FRAME_HEADER.unpack_from(data, start)
        size: int = upper << 8 | lower
        stream_id &= 0x7FFFFFFF
        if size > self._max_frame_bytes:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "a frame is too large")
        if kind == frames.DATA:
            return self._begin_data(data, start, end, (size, flags, stream_id))
        if size > frames.SMALLEST_MAX_FRAME:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "a frame other than DATA is too large")
        whole: int = frames.HEADER_BYTES + size
        if end - start < whole:
            return self._wait(data, start, whole)
        self._sink.on_frame(kind, flags, stream_id, data[start + frames.HEADER_BYTES : start + whole])
        return whole

    def _wait(self, data: bytes, start: int, need: int) -> int:
        if start < len(data):
            self._rest += data[start:]
            self._need = need
        return 0

    def _begin_data(self, data: bytes, start: int, end: int, header: tuple[int, int, int]) -> int:
        size, flags, stream_id = header
        ahead, padding = frames.HEADER_BYTES, 0
        self._left = size
        if flags & frames.PADDED:
            ahead += 1
            if end - start < ahead:
                return self._wait(data, start, ahead)
            padding = data[start + ahead - 1]
            if padding >= size:
                raise ConnectionFault(frames.PROTOCOL_ERROR, "padding is longer than its frame")
            self._left = size - padding - 1
        self._in_data = True
        self._stream_id, self._flags, self._padding_left = stream_id, flags, padding
        self._sink.on_data_begin(size, size - self._left, flags, stream_id)
        return ahead

    def _read_data(self, data: bytes, start: int, end: int) -> int:
        """Use what is here of a DATA frame, and give where the rest begins."""
        size = min(self._left, end - start)
        if size:
            self._left -= size
            view = data if size <= _COPIED_BYTES else memoryview(data)
            self._sink.on_data(self._stream_id, view[start : start + size])
            start += size
        if not self._left and self._padding_left:
            size = min(self._padding_left, end - start)
            self._padding_left -= size
            start += size
        if not self._left and not self._padding_left:
            self._in_data = False
            self._sink.on_data_end(self._flags, self._stream_id)
        return start
