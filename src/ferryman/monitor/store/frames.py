"""Frames of a journal: a mark, a length, a CRC-32 and the bytes, so that what is torn or altered is never believed."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

HEADER = b"ferryman records 1\n"
MAX_FRAME_BYTES = 4 << 20
_MARK = b"\xf5FR"
_HEAD = struct.Struct("<3sII")


def frame(payload: bytes) -> bytes:
    """Give the bytes that stand for one payload in a journal."""
    return _HEAD.pack(_MARK, len(payload), zlib.crc32(payload)) + payload


@dataclass(slots=True)
class Damage:
    """Count what of a journal can't be believed: stretches between good frames, their bytes, and a torn end's bytes.

    A torn end is what a writer that was killed, or is still writing, leaves behind: it was never reported as added.
    """

    gaps: int = 0
    gap_bytes: int = 0
    torn_bytes: int = 0

    @property
    def is_corrupt(self) -> bool:
        """Tell whether anything but the end is damaged."""
        return self.gaps > 0


def scan(held: bytes | memoryview, damage: Damage, *, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Give each good frame's payload with the offset behind it, from `start` on; counts the rest into `damage`."""
    held = bytes(held)
    position = good = start
    while position < len(held):
        payload = _payload_at(held, position)
        if payload is not None:
            if position > good:
                damage.gaps += 1
                damage.gap_bytes += position - good
            position = good = position + _HEAD.size + len(payload)
            yield good, payload
            continue
        following = held.find(_MARK, position + 1)
        if following < 0:
            break
        position = following
    damage.torn_bytes += len(held) - good


def _payload_at(held: bytes, position: int) -> bytes | None:
    if position + _HEAD.size > len(held):
        return None
    mark, length, crc = _HEAD.unpack_from(held, position)
    if mark != _MARK or length > MAX_FRAME_BYTES or position + _HEAD.size + length > len(held):
        return None
    payload = held[position + _HEAD.size : position + _HEAD.size + length]
    return payload if zlib.crc32(payload) == crc else None
