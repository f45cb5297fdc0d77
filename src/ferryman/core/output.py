"""Who is told what a pipeline saw: a signal, where it goes, and what counts as delivered."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field

from ferryman.core.errors import FerrymanError

Value = str | int | float | bool | None


class NotDelivered(FerrymanError):
    """Say that the other side didn't acknowledge a signal; it may be sent again."""


@dataclass(frozen=True, slots=True)
class Signal:
    """Say one thing that happened: a part was judged, a line was crossed, an hour was counted.

    `id` is the same each time that this signal is sent, over restarts, so that a receiver can count it once. `time_s`
    is seconds since 1970; `captured_s` is `time.monotonic()` when the frame behind it was captured, 0 where no frame
    is.
    """

    id: str
    event: str
    camera: str
    time_s: float
    captured_s: float = 0.0
    values: Mapping[str, Value] = field(default_factory=dict)

    def as_json(self) -> dict[str, Value]:
        """Give what is written: the values beside id, event, camera and time."""
        return {**self.values, "id": self.id, "event": self.event, "camera": self.camera, "time": self.time_s}


class OutputSection(BaseModel):
    """Be an `[outputs.NAME]` section of ferryman.toml; each kind of output is a subclass with its own keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(description="What kind of output it is.")
    events: tuple[str, ...] = Field(
        (), description="Only these events: part, line, zone, counts, camera; all of them by default."
    )
    cameras: tuple[str, ...] = Field((), description="Only of these cameras; of all by default.")
    keep: bool = Field(
        False,
        description="Keep what can't be delivered on disk and deliver it later, in order, also after a restart; "
        "without it a signal that is late is dropped and counted.",
    )
    timeout_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        500.0, description="Wait so long for one acknowledgement, in milliseconds, before the next try."
    )
    deadline_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None,
        description="From a frame's capture to the acknowledged write; one that is later counts as missed, and is not "
        "sent any more unless `keep`.",
    )
    heartbeat_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="Beat so often while all is well; the other side goes to its safe state when beats end."
    )


class Connection(Protocol):
    """Be an open way to one output; one thread uses it."""

    def send(self, signal: Signal) -> None:
        """Deliver it: returns once the other side has acknowledged it; raises NotDelivered."""

    def beat(self, count: int) -> None:
        """Show that all is well: `count` goes up by 1; raises NotDelivered."""

    def fail_safe(self) -> None:
        """Put the other side into its safe state: something is not well; raises NotDelivered."""

    def close(self) -> None:
        """Give everything back."""


class Output(Protocol):
    """Connect to one kind of receiver: a frozen OutputSection whose fields are its options."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    extra: ClassVar[str]

    def connect(self) -> Connection:
        """Open a way; raises NotDelivered where nobody answers now, ConfigError for what can never work."""
