"""Keepers whose clocks a test turns, and records to give them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ferryman.core.record import Record
from ferryman.core.recording import RecordsSection
from ferryman.monitor.store.keeper import RecordKeeper
from ferryman.monitor.store.layout import segments

NOON_S = 1_795_435_200.0  # 2026-11-23 12:00 UTC


def record(number: int, **told: Any) -> Record:
    """Give a record of a picture's request, told apart by its number."""
    fields: dict[str, Any] = {
        "id": f"id-{number}", "model": "street", "version": "1", "at_s": NOON_S + number / 100, "outcome": "ok",
        "total_s": 0.01 * (number % 7), "columns": {"brightness": [100.0 + number % 50], "label": ["car"]},
    }  # fmt: skip
    return Record(**(fields | told))


@dataclass
class Clocks:
    """Hold the time that a keeper believes; `pass_s` lets it go on evenly."""

    now_s: float = NOON_S
    passed_s: float = 0.0

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        self.passed_s += seconds


@dataclass
class Kept:
    """Hold a folder and its keeper; `again` is a new start after a stop or, with `killed`, as after a kill."""

    folder: Path
    clocks: Clocks = field(default_factory=Clocks)
    section: RecordsSection = field(default_factory=lambda: RecordsSection(min_free_mb=0, seal_minutes=1))
    keeper: RecordKeeper = field(init=False)

    def __post_init__(self) -> None:
        self.keeper = self._made()

    def _made(self) -> RecordKeeper:
        return RecordKeeper(
            self.folder, self.section, clock=lambda: self.clocks.now_s, monotonic=lambda: self.clocks.passed_s
        )

    def again(self, **changes: Any) -> RecordKeeper:
        self.keeper.close()
        self.section = self.section.model_copy(update=changes)
        self.keeper = self._made()
        return self.keeper

    def seal(self) -> None:
        """Let a minute and a bit pass, in which all journals become Parquet."""
        for _ in range(2 + len(segments(self.folder))):
            self.clocks.pass_s(61)
            self.keeper.tick()


KeepIn = Callable[..., Kept]


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[KeepIn]:
    """Make keepers: `keep(seal_mb=1)`; all end with the test."""
    made: list[Kept] = []

    def keep_in(folder: Path | None = None, **settings: Any) -> Kept:
        section = RecordsSection(**({"min_free_mb": 0, "seal_minutes": 1} | settings))
        made.append(Kept(folder or tmp_path / "kept", section=section))
        return made[-1]

    yield keep_in
    for kept in made:
        kept.keeper.close()


ODD: list[Any] = [
    math.nan,
    math.inf,
    -math.inf,
    1e308,
    -0.0,
    "a" * 1_000_000,
    "\ud800",
    "\0",
    None,
    "'; DROP TABLE",
    "",
]
"""Values that signals must survive."""
