"""What the control plane is given to work with: workers, lanes, settings."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ferryman.core.bundle import Bundle
from ferryman.core.engine import OFF
from ferryman.core.engine_cache import engines_folder
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.job import Instance, Loaded
from ferryman.server.data.lane import Lane
from ferryman.server.data.signals.metrics import Metrics
from ferryman.server.data.signals.served import ServedMetrics
from ferryman.server.data.worker.order import LoadOrder
from ferryman.supply.policy import EVERYTHING, Policy


class Worker(Instance, Protocol):
    """Be one process that holds a model: no plug point, but the near end of a link."""

    @property
    def pid(self) -> int:
        """Give its process id."""

    async def load(self, order: LoadOrder, *, deadline_s: float) -> Loaded:
        """Load a bundle and ask it its golden samples; raises the worker's own error, NotReady where it died."""

    async def stop(self, *, deadline_s: float) -> None:
        """Let it finish what it has, and end it."""

    def kill(self) -> None:
        """End it now; its asks fail."""

    def rss_bytes(self) -> int:
        """Give its resident memory."""

    def private_bytes(self) -> int:
        """Give the memory that it has taken since it was forked, without files."""

    def oldest_job_s(self, now: float) -> float:
        """Give the age of the oldest job inside, 0 where it is idle; `now` is of the loop's clock."""


Hire = Callable[[Callable[[], None], Callable[[str], None]], Worker]
"""Start a worker, given what it calls when its `free` grew and, once, when it is lost (with the reason)."""

OpenLane = Callable[[Bundle, Loaded, ServedMetrics], Lane]
"""Open the queue of a version, whose figures are kept there."""


class Choices(Protocol):
    """Remember the operator's choices over a restart."""

    def get(self, key: str) -> Any:  # JSON
        """Give what was put there last, or None."""

    async def put(self, key: str, value: Any) -> None:  # JSON
        """Remember a value; raises FerrymanError where that can't be done."""

    def close(self) -> None:
        """Remember no more."""


class NoMemory:
    """Forget every choice at the end: for a server that keeps no state."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}  # JSON

    def get(self, key: str) -> Any:  # JSON
        """Give what was put there last, or None."""
        return self._values.get(key)

    async def put(self, key: str, value: Any) -> None:  # JSON
        """Remember a value for now."""
        self._values[key] = value

    def close(self) -> None:
        """Have nothing to free."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Say how a lost worker is started again: after `first_s`, then twice as long each time, at most `longest_s`.

    `losses` within `within_s` are a crash loop: from then on every start waits for `longest_s`.
    """

    first_s: float = 0.1
    longest_s: float = 10.0
    losses: int = 5
    within_s: float = 60.0


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """Say how models are kept; 0 stands for: as the bundle was built, never, or no limit.

    A worker is restarted where one job takes longer than `hang_s`, and replaced where it holds more than
    `max_worker_mb`. `max_memory_mb` bounds all workers together: models that are idle make room. `probe_s` is the time
    between two golden samples, `watch_s` between two looks at the repository. `device_engine` is built on this device
    within `engine_build_s` and kept in `engines`, at most `engines_mb` of them. `policy` says what is accepted.
    """

    threads: int = 0
    instances: int = 0
    processes: int = 0
    max_batch: int = 0
    load_s: float = 300.0
    stop_s: float = 10.0
    drain_s: float = 30.0
    hang_s: float = 60.0
    probe_s: float = 30.0
    watch_s: float = 0.0
    check_s: float = 0.5
    max_worker_mb: int = 0
    max_memory_mb: int = 0
    allow_broken: bool = False
    device_engine: str = OFF
    engines: Path = field(default_factory=engines_folder)
    engines_mb: int = 8192
    engine_build_s: float = 3600.0
    policy: Policy = EVERYTHING
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, slots=True)
class Crew:
    """Hold what every supervisor works with."""

    hire: Hire
    open_lane: OpenLane
    plane: Dataplane
    metrics: Metrics
    settings: ControlSettings
