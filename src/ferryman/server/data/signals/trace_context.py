"""The W3C header `traceparent`: which trace a request belongs to."""

import re
from dataclasses import dataclass

_SHAPE = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Name a span of some trace, and say whether its trace is recorded."""

    trace_id: int
    span_id: int
    is_sampled: bool

    @property
    def trace_hex(self) -> str:
        """Give the trace's id as logs show it."""
        return f"{self.trace_id:032x}"

    def header(self) -> bytes:
        """Give the header that says this."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.is_sampled):02x}".encode()


def parse_traceparent(value: bytes | None) -> TraceContext | None:
    """Read the header; None for one that is not there or not exactly as the standard says, which asks to ignore it."""
    if value is None or (found := _SHAPE.fullmatch(value)) is None:
        return None
    version, trace, span, flags, more = found.groups()
    # Versions to come may say more at the end; this one may not.
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    trace_id, span_id = int(trace, 16), int(span, 16)
    if not trace_id or not span_id:
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))
