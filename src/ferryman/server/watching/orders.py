"""What the watch is told at its start, and each time that a version comes or goes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Watched:
    """Name one version that is served: its bundle's path, and the digest that it must have."""

    model: str
    version: str
    path: str
    digest: str


@dataclass(frozen=True, slots=True)
class Orders:
    """Say where records and states are kept ("": nowhere), and what is watched."""

    folder: str = ""
    watched: tuple[Watched, ...] = ()


def write_orders(orders: Orders) -> dict[str, Any]:  # JSON
    """Give JSON values."""
    return asdict(orders)


def read_orders(told: dict[str, Any]) -> Orders:  # JSON
    """Take them back."""
    return Orders(told["folder"], read_watched(told["watched"]))


def read_watched(told: Sequence[dict[str, str]]) -> tuple[Watched, ...]:
    """Take versions back."""
    return tuple(Watched(**each) for each in told)
