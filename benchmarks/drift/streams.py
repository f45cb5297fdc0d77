"""Streams of rows whose truth is known: nothing changed, or something did at a known row."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.drift.pictures import mix_of, signals_of
from benchmarks.drift.tables import Elec, answer, change_rows, read_elec
from numpy.typing import NDArray

from ferryman.core.record import Value

Table = dict[str, list[Value]]

BEFORE = 300  # clean rows before a change, and a random part of a hundred more
AFTER = 1500
RAMP = 400  # rows over which a gradual change comes
BASELINE_ROWS = {"coco128": 100, "deeppcb": 100, "elec2": 100, "elec2-1000": 1000}
INTERVAL_ROWS = 2000
CHUNK = 100
PICTURES = ("brightness", "blur", "noise", "jpeg", "lens shift", "occlusion", "class mix")
ROWS = ("sensor scale", "missing", "new category")


@dataclass(frozen=True, slots=True)
class Stream:
    """Hold a baseline and a stream; `change` is the row at which it begins, None where nothing changes."""

    name: str
    how: str
    reference: Table
    rows: Table
    change: int | None

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))


class Source:
    """Draw rows of one set, as they are and as they become."""

    def __init__(self, name: str, data: Path, cache: Path) -> None:
        self.name = name
        self.changes = ROWS if name.startswith("elec2") else PICTURES
        if name.startswith("elec2"):
            elec = read_elec(data)
            rows, rng = elec.rows[: elec.fitted], np.random.default_rng(0)
            self._tables = {"clean": _elec(elec, rows)}
            for change in ROWS[:2]:
                self._tables[change] = _elec(elec, change_rows(rows, change, rng))
            renamed = dict(self._tables["clean"])
            renamed["cell.shift"] = [
                "standby" if at % 7 == 0 else each for at, each in enumerate(renamed["cell.shift"])
            ]
            self._tables["new category"] = renamed
        else:
            self._tables = signals_of(name, data, cache)
        self._tables = {change: _settled(table, self._tables["clean"]) for change, table in self._tables.items()}
        self.size = len(next(iter(self._tables["clean"].values())))
        self._mix = None if name.startswith("elec2") else mix_of(name, self._tables["clean"])

    def clean(self, rows: int, seed: int) -> Stream:
        """Draw a baseline and rows of the same distribution, independent of each other."""
        rng = np.random.default_rng([seed, 1])
        return Stream(self.name, "clean", self._reference(rng), self._draw("clean", rows, rng), None)

    def changed(self, change: str, how: str, seed: int) -> Stream:
        """Draw clean rows, then changed ones: from one row to the next, or more and more of them."""
        rng = np.random.default_rng([seed, 2])
        before = BEFORE + int(rng.integers(100))
        reference = self._reference(rng)
        first, clean, other = (self._draw(kind, rows, rng) for kind, rows in self._parts(change, before))
        share = np.ones(AFTER) if how == "sudden" else np.minimum(np.arange(1, AFTER + 1) / RAMP, 1.0)
        is_other = rng.random(AFTER) < share
        rows = {
            name: first[name]
            + [b if flag else a for a, b, flag in zip(clean[name], other[name], is_other, strict=True)]
            for name in first
        }
        return Stream(f"{self.name}: {change}", how, reference, rows, before)

    def _parts(self, change: str, before: int) -> list[tuple[str, int]]:
        return [("clean", before), ("clean", AFTER), (change, AFTER)]

    def _reference(self, rng: np.random.Generator) -> Table:
        return self._draw("clean", BASELINE_ROWS[self.name], rng)

    def _draw(self, change: str, rows: int, rng: np.random.Generator) -> Table:
        chances: NDArray[np.float64] | None = None
        if change == "class mix":
            change, chances = "clean", self._mix
        places = rng.choice(self.size, rows, p=chances)
        return {name: [values[place] for place in places] for name, values in self._tables[change].items()}


def _elec(elec: Elec, rows: NDArray[np.float64]) -> Table:
    return elec.table(rows, answer(elec, rows))


def _settled(table: Table, like: Table) -> Table:
    """Give the signals that the clean set has values of; one that tells of a picture's past says nothing here."""
    size = len(next(iter(like.values())))
    return {
        name: table.get(name, [None] * size)
        for name, values in like.items()
        if name != "picture.repeated" and any(value is not None for value in values)
    }
