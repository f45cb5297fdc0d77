"""What a gRPC connection may take, hold and wait for."""

from dataclasses import dataclass, field

from ferryman.server.data.http.intake import Intake

_MB = 1024 * 1024


def _own_intake() -> Intake:
    return Intake(limit_bytes=32 * _MB, total_bytes=256 * _MB)


@dataclass(frozen=True, slots=True)
class GrpcSettings:
    """Bound connections. Waits are looked at once each `sweep_s`, so they end up to that much later.

    `receive_s` is for a message to come whole, `send_s` for a client to read on, `header_s` for the preface and for a
    block of headers. A connection that says nothing is asked for a sign of life after `ping_after_s`, cut where none
    comes within `ping_timeout_s`, and told to go after `idle_s` without a call. One that was ended has `linger_s` for
    its client to close it, counted from when that last took something.
    """

    max_message_bytes: int = 32 * 1024 * 1024
    max_streams: int = 1000
    max_header_bytes: int = 16 * 1024
    stream_window_bytes: int = 4 * 1024 * 1024
    connection_window_bytes: int = 16 * 1024 * 1024
    max_frame_bytes: int = 1024 * 1024
    header_s: float = 10.0
    receive_s: float = 60.0
    send_s: float = 30.0
    ping_after_s: float = 60.0
    ping_timeout_s: float = 20.0
    idle_s: float = 900.0
    linger_s: float = 1.0
    sweep_s: float = 1.0
    max_idle_frames: int = 1000  # PING, SETTINGS and their like, between two answers
    max_resets: int = 1000  # calls given up by the client, at once ...
    resets_per_s: int = 100  # ... and how fast that many come back
    intake: Intake = field(default_factory=_own_intake)
