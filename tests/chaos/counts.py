"""Count what became of every request, and tell it in one line a test."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

_HEADINGS = ("what happened", "sent", "answered", "refused", "failed", "cut", "lost", "wrong", "well after")


@dataclass
class Counts:
    """Hold one load's counts.

    Answered: with the right answer. Refused: told so, and when to come back. Failed: any other status. Lost: written
    in full on an open connection, and never answered. Cut: the same, where the server itself was killed. Wrong: a
    200 with a wrong answer. `unheard` never reached a server, so they aren't among those sent.
    """

    sent: int = 0
    answered: int = 0
    refused: int = 0
    cut: int = 0
    lost: int = 0
    wrong: int = 0
    unheard: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    answered_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    hurt_s: float = 0.0
    first_trouble_s: float = 0.0
    last_trouble_s: float = 0.0
    well_s: float = 0.0

    def answer(self, took_s: float) -> None:
        """Count a right answer."""
        self.answered += 1
        self.answered_s.append(took_s)
        if self.well_s <= max(self.hurt_s, self.last_trouble_s):
            self.well_s = time.monotonic()

    def refuse(self, took_s: float) -> None:
        """Count a refusal that says when to come back."""
        self.refused += 1
        self.refused_s.append(took_s)
        self.trouble("")

    def fail(self, status: str, words: str) -> None:
        """Count an answer that is neither right nor a proper refusal."""
        self.failed[status] += 1
        self.trouble(f"{status}: {words}")

    def trouble(self, words: str) -> None:
        """Note when something was not answered, and keep some of the words."""
        self.last_trouble_s = time.monotonic()
        self.first_trouble_s = self.first_trouble_s or self.last_trouble_s
        if words and len(self.examples) < 5:
            self.examples.append(words[:300])

    def hurt(self) -> None:
        """Know that the harm is done now: the time to be well again begins."""
        self.hurt_s = time.monotonic()

    @property
    def well_after_s(self) -> float:
        """Give the seconds from the harm to the first right answer that no trouble followed."""
        if not self.hurt_s:
            return 0.0
        return self.well_s - self.hurt_s if self.well_s > self.last_trouble_s else float("inf")

    @property
    def is_whole(self) -> bool:
        """Tell whether every request that was sent is accounted for."""
        ended = self.answered + self.refused + self.cut + self.lost + self.wrong + self.failed.total()
        return ended == self.sent


def together(counts: Iterable[Counts]) -> Counts:
    """Add up what several loads saw; it is well again when all of them are."""
    whole = Counts()
    for each in counts:
        for name in ("sent", "answered", "refused", "cut", "lost", "wrong", "unheard"):
            setattr(whole, name, getattr(whole, name) + getattr(each, name))
        whole.failed += each.failed
        whole.answered_s += each.answered_s
        whole.refused_s += each.refused_s
        whole.examples += each.examples
        whole.hurt_s = max(whole.hurt_s, each.hurt_s)
        whole.last_trouble_s = max(whole.last_trouble_s, each.last_trouble_s)
        whole.well_s = max(whole.well_s, each.well_s)
    return whole


def quantile_ms(seconds: Sequence[float], share: float) -> float:
    """Give a quantile in milliseconds; 0 of nothing."""
    return round(float(np.quantile(seconds, share)) * 1e3, 2) if seconds else 0.0


@dataclass
class Report:
    """Collect one row a test for the end of the run, and lines of those that send no requests."""

    rows: list[dict[str, object]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def add(self, what: str, counts: Counts, note: str = "") -> None:
        """Note what became of the requests of one test."""
        assert counts.is_whole, f"requests that nobody counted: {counts}"
        self.rows.append(
            {
                "what": what, "sent": counts.sent, "answered": counts.answered, "refused": counts.refused,
                "failed": counts.failed.total(), "cut": counts.cut, "lost": counts.lost, "wrong": counts.wrong,
                "well_after_s": round(counts.well_after_s, 2), "note": note,
            }
        )  # fmt: skip

    def table(self) -> list[str]:
        """Give the lines of a table."""
        lines = [list(_HEADINGS)]
        for row in self.rows:
            cells = [str(cell) for key, cell in row.items() if key != "note"]
            lines.append([*cells[:-1], f"{cells[-1]} s"])
        widths = [max(len(line[place]) for line in lines) for place in range(len(_HEADINGS))]
        notes = ["", *(str(row["note"]) for row in self.rows)]
        return [_line(cells, widths, note) for cells, note in zip(lines, notes, strict=True)]

    def write(self, path: Path) -> None:
        """Write the rows as JSON."""
        path.write_text(json.dumps(self.rows, indent=1) + "\n")


def _line(cells: Sequence[str], widths: Sequence[int], note: str) -> str:
    first = cells[0].ljust(widths[0])
    rest = "  ".join(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return f"{first}  {rest}  {note}".rstrip()


REPORT = pytest.StashKey[Report]()  # where a run keeps its report
