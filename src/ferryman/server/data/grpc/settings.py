"""What a gRPC connection may take, hold and wait for."""

from dataclasses import dataclass, field
from typing import Protocol

from ferryman.core.errors import Overloaded


class Intake(Protocol):
    """Know how many bytes of requests are in work."""

    def take(self, more_bytes: int) -> None:
        """Count more bytes, or raise Overloaded where that is too many."""

    def give_back(self, bytes_: int) -> None:
        """Count fewer bytes."""


@dataclass(slots=True)
class ByteCount:
    """Be an intake with a limit of its own."""

    total_bytes: int = 256 * 1024 * 1024
    held_bytes: int = 0

    def take(self, more_bytes: int) -> None:
        """Count more bytes, or raise Overloaded where that is too many."""
        if more_bytes and self.held_bytes + more_bytes > self.total_bytes:
            raise Overloaded(
                f"the requests in work hold {self.held_bytes} bytes; {more_bytes} more are over this server's limit "
                f"of {self.total_bytes}",
                hint="try again later",
            )
        self.held_bytes += more_bytes

    def give_back(self, bytes_: int) -> None:
        """Count fewer bytes."""
        self.held_bytes -= bytes_


@dataclass(frozen=True, slots=True)
class GrpcSettings:
    """Bound connections. Waits are looked at once each `sweep_s`, so they end up to that much later.

    `receive_s` is for a message to come whole, `send_s` for a client to read on, `header_s` for the preface and for a
    block of headers. A connection that says nothing is asked for a sign of life after `ping_after_s`, cut where none
    comes within `ping_timeout_s`, and told to go after `idle_s` without a call.
    """

    max_message_bytes: int = 32 * 1024 * 1024
    max_streams: int = 1000
    max_header_bytes: int = 16 * 1024
    stream_window_bytes: int = 4 * 1024 * 1024
    connection_window_bytes: int = 16 * 1024 * 1024
    max_frame_bytes: int = 1024 * 1024
    max_asks_per_stream: int = 64
    header_s: float = 10.0
    receive_s: float = 60.0
    send_s: float = 30.0
    ping_after_s: float = 60.0
    ping_timeout_s: float = 20.0
    idle_s: float = 900.0
    sweep_s: float = 1.0
    max_idle_frames: int = 1000  # PING, SETTINGS and their like, between two answers
    max_resets: int = 1000  # calls given up by the client, at once ...
    resets_per_s: int = 100  # ... and how fast that many come back
    intake: Intake = field(default_factory=ByteCount)
