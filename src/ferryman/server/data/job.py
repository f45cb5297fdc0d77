"""What a lane and an instance of a model say to each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ferryman.core.errors import FerrymanError
from ferryman.core.signature import Signature
from ferryman.server.data.ask import Ask, Reply
from ferryman.server.data.items import ItemKind
from ferryman.server.data.look import Look

Settled = Callable[["Job", Sequence[Reply | FerrymanError]], None]
"""Take one reply or error for each of the job's asks, in their order; called once, on the server's loop."""


@dataclass(slots=True, eq=False)
class Job:
    """Hold asks that share one call of the engine: all of them tensors of one `shape`, or all of them items."""

    asks: Sequence[Ask]
    settled: Settled
    started_s: float = 0.0  # the loop's clock, when an instance took it
    look: Look | None = None  # where the worker is to look into it


class Instance(Protocol):
    """Run jobs of one loaded model. `free` is how many more it takes now without making them wait for long."""

    free: int

    def run(self, job: Job) -> None:
        """Take a job; never blocks. Every ask of a job that is lost with its worker gets NotReady."""


@dataclass(frozen=True, slots=True)
class GoldenVerdict:
    """Say how the golden samples were answered; `reason` is empty where all are within their tolerance."""

    reason: str
    samples: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """Say what a worker found when it loaded a bundle.

    `max_batch` is 1 where one call may not hold several requests: a fixed batch of 1, or answers that changed when
    the golden samples shared a call (`why_unbatched`). `engine` names one of this device's that answers instead of the
    bundle's own.
    """

    signature: Signature
    takes: ItemKind
    golden: GoldenVerdict
    max_batch: int
    why_unbatched: str
    releases_gil: bool
    load_s: float
    engine: str = ""
