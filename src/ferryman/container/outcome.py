"""What comes of a check."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Figure = float | int | str | None
Verdict = Literal["passed", "failed", "told", "not checked"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Say what a check saw that is as it should be; `is_advice` where it is not, but nothing promised it."""

    message: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    hint: str = ""
    is_advice: bool = False


def with_busy(hint: str) -> str:
    """Add to a way out that a timing on a machine with more work than cores says little."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    return f"{hint}; or try again: this machine is busy (load {load:.0f} on {cores} cores)" if load > cores else hint


class Fails(Exception):
    """Say that a promise doesn't hold, with the way out."""

    def __init__(self, message: str, *, hint: str, figures: Mapping[str, Figure] | None = None) -> None:
        super().__init__(message)
        self.hint, self.figures = hint, dict(figures or {})


class NotChecked(Exception):
    """Say why a check could not be done, with what was seen all the same."""

    def __init__(self, message: str, *, hint: str = "", figures: Mapping[str, Figure] | None = None) -> None:
        super().__init__(message)
        self.hint, self.figures = hint, dict(figures or {})


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold one check's verdict; "told" is what nobody promised and everybody should know."""

    id: str
    title: str
    verdict: Verdict
    message: str
    seconds: float
    hint: str = ""
    figures: Mapping[str, Figure] = field(default_factory=dict)
