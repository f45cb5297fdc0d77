"""What a sink is, and what is handed to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ferryman.core.errors import UserError
from ferryman.monitor.store.rows import Raw

_MOST_SECRET_BYTES = 65536


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


def read_secret(told: str, environ: Callable[[str], str | None]) -> str:
    """Give the value of env:NAME or of the file in file:PATH; any other text as it is. Raises UserError without it."""
    kind, _, where = told.partition(":")
    if kind == "env":
        value = environ(where)
        if not value:
            raise UserError(f"a sink's secret is missing: {where} is not set", hint=f"set the variable {where}")
    elif kind == "file":
        try:
            with Path(where).open(encoding="utf-8") as opened:
                value = opened.read(_MOST_SECRET_BYTES)
        except (OSError, UnicodeDecodeError) as error:
            words = type(error).__name__ if isinstance(error, UnicodeDecodeError) else error.strerror
            raise UserError(f"a sink's secret can't be read: {where}: {words}", hint="name a file of text") from None
    else:
        return told
    value = value.strip()  # secrets that were put into a file or a variable often end with a new line
    if not value.isprintable():
        raise UserError(f"what {told} holds has signs in it that no header can carry", hint="write it anew")
    return value
