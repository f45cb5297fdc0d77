"""What a worker is told to load, and what it says of it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ferryman.core.signature import Signature
from ferryman.server.data.job import GoldenVerdict, Loaded


class Order(Protocol):
    """Say what to load and how: `threads` cores for one call of the engine, `instances` calls at once."""

    @property
    def path(self) -> Path:
        """Give the bundle's folder or file."""

    @property
    def threads(self) -> int:
        """Give the cores of one call; 0 stands for: as the bundle was built."""

    @property
    def instances(self) -> int:
        """Give the calls of the engine at once, where it lets other threads run meanwhile."""


@dataclass(frozen=True, slots=True)
class EngineOrder:
    """Have the bundle's model answered by an engine of this device, that lies in a cache of at most so many MB.

    Only a worker that `builds` makes one that is not there, at low priority.
    """

    name: str
    cache: Path
    cache_mb: int = 0
    builds: bool = False


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """Be an order. `max_batch` is the most rows that one call may hold; 0 lets the worker find out what is worth it.

    Without an `engine` the runtime of the bundle's format answers. A bundle of another `digest` is not loaded: what was
    checked before may have been replaced since.
    """

    path: Path
    threads: int = 1
    instances: int = 1
    max_batch: int = 0
    engine: EngineOrder | None = None
    digest: str = ""


def write_order(order: Order) -> dict[str, Any]:  # JSON
    """Give an order as JSON values."""
    engine: EngineOrder | None = getattr(order, "engine", None)
    return {
        "path": str(order.path),
        "threads": order.threads,
        "instances": order.instances,
        "max_batch": getattr(order, "max_batch", LoadOrder.__dataclass_fields__["max_batch"].default),
        "engine": {**asdict(engine), "cache": str(engine.cache)} if engine else None,
        "digest": getattr(order, "digest", ""),
    }


def read_order(raw: dict[str, Any]) -> LoadOrder:  # JSON
    """Give an order back."""
    engine = raw["engine"]
    read = EngineOrder(**{**engine, "cache": Path(engine["cache"])}) if engine else None
    return LoadOrder(**{**raw, "path": Path(raw["path"]), "engine": read})


def write_loaded(loaded: Loaded) -> dict[str, Any]:  # JSON
    """Give what a worker found as JSON values."""
    return {**asdict(loaded), "signature": loaded.signature.model_dump(mode="json")}


def read_loaded(raw: dict[str, Any]) -> Loaded:  # JSON
    """Give back what a worker found."""
    signature = Signature.model_validate(raw["signature"])
    return Loaded(**{**raw, "signature": signature, "golden": GoldenVerdict(**raw["golden"])})
