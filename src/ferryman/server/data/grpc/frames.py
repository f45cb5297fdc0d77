"""HTTP/2 frames (RFC 9113) as bytes: numbers, headers of frames, and what ends a connection or a stream."""

from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2
FLOW_CONTROL_ERROR: Final = 3
STREAM_CLOSED: Final = 5
FRAME_SIZE_ERROR: Final = 6
REFUSED_STREAM: Final = 7
CANCEL: Final = 8
COMPRESSION_ERROR: Final = 9
ENHANCE_YOUR_CALM: Final = 11

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

HEADER_BYTES: Final = 9
SMALLEST_MAX_FRAME: Final = 16_384
LARGEST_MAX_FRAME: Final = 2**24 - 1
LARGEST_WINDOW: Final = 2**31 - 1
FIRST_WINDOW: Final = 65_535  # a connection's, before anything is said

FRAME_HEADER: Final = Struct(">HBBBL")  # the length's upper 16 and lower 8 bits, type, flags, stream
SETTING: Final = Struct(">HL")
UINT32: Final = Struct(">L")


class ConnectionFault(Exception):
    """End the whole connection with an error code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Give one frame."""
    size = len(payload)
    return FRAME_HEADER.pack(size >> 8, size & 255, kind, flags, stream_id) + payload


def settings_frame(values: dict[int, int]) -> bytes:
    """Give a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*pair) for pair in values.items()))


def goaway_frame(last_stream_id: int, code: int, reason: str = "") -> bytes:
    """Give a GOAWAY frame; `reason` is for who reads a trace."""
    return frame(GOAWAY, 0, 0, UINT32.pack(last_stream_id) + UINT32.pack(code) + reason.encode()[:200])


def reset_frame(stream_id: int, code: int) -> bytes:
    """Give a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream_id, UINT32.pack(code))


def window_frame(stream_id: int, more_bytes: int) -> bytes:
    """Give a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream_id, UINT32.pack(more_bytes))


def without_padding(flags: int, payload: bytes) -> bytes:
    """Give a HEADERS frame's block: without padding and priority; raises ConnectionFault where they don't fit in."""
    start, end = 0, len(payload)
    if flags & PADDED:
        start = 1
        end -= payload[0] if payload else 1
    if flags & HAS_PRIORITY:
        start += 5
    if start > end:
        raise ConnectionFault(PROTOCOL_ERROR, "padding is longer than its frame")
    return payload[start:end]
