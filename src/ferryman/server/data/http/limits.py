"""What one client may cost: sizes, times and counts."""

from dataclasses import dataclass

LARGER = "send less, or serve with a larger --max-body-mb"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bound what a connection may send, hold and wait for. Over them the answer is 400, 408, 413, 414, 429, 431 or 503.

    A body comes within `receive_s`, and after `slow_start_s` at no less than `slowest_bytes_per_s`; an answer is read
    within `send_s` and the time that it takes at that rate.
    """

    header_bytes: int = 16 * 1024
    header_count: int = 100
    target_bytes: int = 8 * 1024
    body_bytes: int = 32 * 1024 * 1024
    message_bytes: int = 16 * 1024 * 1024  # of one WebSocket message
    connections: int = 10_000
    header_s: float = 10.0  # from a request's first byte, or the connection's start, to the end of its headers
    receive_s: float = 60.0
    slow_start_s: float = 5.0
    slowest_bytes_per_s: int = 4 * 1024
    send_s: float = 30.0
    keep_alive_s: float = 75.0
    linger_s: float = 5.0  # for the rest of a refused body, so that the client gets to read why
    ping_s: float = 20.0
    pong_s: float = 20.0

    def sweep_s(self) -> float:
        """Give the pause between two looks at all connections: every limit holds to within so much."""
        times = (self.header_s, self.receive_s, self.slow_start_s, self.send_s, self.keep_alive_s, self.linger_s)
        return min(1.0, min(times) / 4, self.ping_s / 4, self.pong_s / 4)
