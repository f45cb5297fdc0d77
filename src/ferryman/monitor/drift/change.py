"""What a watch tells: which signals moved, from what to what, since when."""

from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue


@dataclass(frozen=True, slots=True)
class Moved:
    """Say what became of one signal.

    `kind` is what changed of it: "level", "spread", "outside" (of the baseline's range), "missing", "share" (of the
    category `category`), "mix" (of its categories). `before` and `after` are in the signal's own unit (medians; for a
    spread the width of the middle half; else shares); None where too few values are there. `score` over `threshold`
    is an alarm. `rows` is how many rows told it, the first of which came at `since_s` (Unix time). `may_be_hour`: it is
    of a kind that the hour of the day could make, and the season is not yet learnt.
    """

    signal: str
    kind: str
    score: float
    threshold: float
    since_s: float
    rows: int
    before: float | None
    after: float | None
    category: str = ""
    text: str = ""
    may_be_hour: bool = False

    def to_json(self) -> dict[str, JsonValue]:
        """Give the same as JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class DriftChange:
    """Say that drift began or ended at `at_s` (Unix time); the signals that moved most come first."""

    kind: Literal["began", "ended"]
    at_s: float
    signals: tuple[Moved, ...]
