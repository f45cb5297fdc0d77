"""What a sink is, and what is handed to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ferryman.monitor.store.rows import Raw


class SinkDown(Exception):
    """Say that a sink did not take what it was handed, and that it is worth trying again."""


@dataclass(frozen=True, slots=True)
class Event:
    """Hold one record and the id under which it is delivered: the same on each try, on each start."""

    id: str
    raw: Raw


class EventSink(Protocol):
    """Take records one by one."""

    def send(self, events: Sequence[Event]) -> int:
        """Deliver all of them or raise SinkDown; gives how many were refused for good."""

    def close(self) -> None:
        """Let connections go."""


class FileSink(Protocol):
    """Take whole Parquet files."""

    def put(self, name: str, path: Path) -> None:
        """Deliver a file under a name with slashes, in the place of one that has it; or raise SinkDown."""
