"""Long words of the watch, in packets that the kernel takes: a wide table that drifts fills many."""

from collections.abc import Iterator

MOST_PACKET_BYTES = 212_992  # the usual net.core.wmem_max
_PART_BYTES = 128_000
_MORE, _LAST = b"+", b"."


def split(message: bytes) -> Iterator[bytes]:
    """Give a message as packets, each marked whether more of it follows."""
    last = max(len(message) - 1, 0) // _PART_BYTES
    for part in range(last + 1):
        yield (_LAST if part == last else _MORE) + message[part * _PART_BYTES : (part + 1) * _PART_BYTES]


class Joining:
    """Put packets together again, in the order in which they come."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def add(self, packet: bytes) -> bytes | None:
        """Take a packet; gives the message that it ends."""
        self._parts.append(packet[1:])
        if packet[:1] == _MORE:
            return None
        whole, self._parts = b"".join(self._parts), []
        return whole
