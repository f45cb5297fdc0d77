"""How far a sink is: kept beside the records, so that a restart goes on there."""

from dataclasses import dataclass
from pathlib import Path

import orjson

from ferryman.core.durable import write_whole
from ferryman.monitor.store.layout import SINKS, segment_number


@dataclass(frozen=True, slots=True)
class Cursor:
    """Name a segment and an offset in it; all before that is delivered, or was given up and counted."""

    segment: str = ""
    offset: int = 0

    @property
    def number(self) -> int:
        """Give the segment's number; 0 at the very beginning."""
        return segment_number(self.segment)


def read_cursor(folder: Path, name: str) -> Cursor:
    """Read a sink's cursor; a damaged or missing one is the very beginning, so that nothing is left out."""
    try:
        told = orjson.loads(_path(folder, name).read_bytes())
        return Cursor(str(told["segment"]), max(int(told["offset"]), 0))
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return Cursor()


def write_cursor(folder: Path, name: str, cursor: Cursor) -> None:
    """Keep a sink's cursor, whole or not at all; raises OSError."""
    write_whole(_path(folder, name), orjson.dumps({"segment": cursor.segment, "offset": cursor.offset}))


def last_cursor(folder: Path) -> int:
    """Give the highest segment number of any sink's cursor."""
    try:
        names = [path.stem for path in (folder / SINKS).glob("*.json")]
    except OSError:
        return 0
    return max((read_cursor(folder, name).number for name in names), default=0)


def _path(folder: Path, name: str) -> Path:
    return folder / SINKS / f"{name}.json"
