"""What is kept of a traced request until a thread sends it away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ferryman.server.data.ask import Stages
from ferryman.server.data.signals.trace_context import TraceContext

Value = str | int | float | bool
Kind = Literal["server", "internal"]


@dataclass(frozen=True, slots=True)
class OpenSpan:
    """Be a request that is traced, while it is under way; `ask.trace` holds it."""

    context: TraceContext
    parent_id: int  # 0: it is the first of its trace
    started_s: float


@dataclass(frozen=True, slots=True)
class EndedSpan:
    """Hold a span that ended; times are the loop's."""

    name: str
    context: TraceContext
    parent_id: int
    started_s: float
    ended_s: float
    attributes: Mapping[str, Value] = field(default_factory=dict)
    links: Sequence[TraceContext] = ()
    kind: Kind = "internal"
    is_error: bool = False


def stage_times(stages: Stages, ended_s: float) -> list[tuple[str, float, float]]:
    """Give name, start and end of each stage of a call that ended then; they follow each other without a gap."""
    times = []
    for name, took_s in (
        ("finish", stages.finish_s),
        ("infer", stages.infer_s),
        ("prepare", stages.prepare_s),
        ("queue", stages.queue_s),
    ):
        times.append((name, ended_s - took_s, ended_s))
        ended_s -= took_s
    return times[::-1]
