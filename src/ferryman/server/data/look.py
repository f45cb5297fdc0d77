"""A call of the engine that is looked into: who asked and what the worker saw, put together once both are there."""

from collections.abc import Callable
from dataclasses import dataclass, field

Facts = tuple[str | float | int, ...]
"""What is known of an ask in the front: the fields of a Record in their order, up to `rows`, without its columns."""

Seen = Callable[["Look", bytes], None]
"""Take a look whose asks have all ended, and what the worker wrote of it: JSON, empty where it wrote nothing."""


@dataclass(slots=True, eq=False)
class Look:
    """Hold the facts of a job's asks by their place; they end before the worker tells what it saw."""

    seen: Seen
    facts: dict[int, Facts] = field(default_factory=dict)

    def tell(self, note: bytes) -> None:
        """Hand over; called once."""
        self.seen(self, note)


@dataclass(frozen=True, slots=True)
class Place:
    """Say which ask of a look one is."""

    look: Look
    number: int
