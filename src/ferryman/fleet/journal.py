"""What a box knows of its two slots, and where a change of them stands: one small file, replaced as a whole.

The states of a change, in order; each is on the disk before what it names begins, so that a power cut in it is known:

    filling     the idle slot is being written: what lies there means nothing
    trying      it is whole and trusted; a server of its own is asked its golden samples
    switching   it answered right: `current` is led to it (again, after a cut: the step may be done twice)
    watching    it serves; it must answer for a while
    returning   it did not: `current` is led back
"""

import secrets
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ferryman.fleet.durable import write_durably

Slot = Literal["a", "b"]
Phase = Literal["filling", "trying", "switching", "watching", "returning"]
MOST_BAD = 64


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Held(_Part):
    """Say what a slot holds: a bundle that answered for a while on this box, and the release that brought it."""

    source: str
    model: str
    digest: str = Field(description="the bundle's own")
    release: int = 0


class Change(_Part):
    """Say which bundle is brought into which slot, and how far that is; `attempts` count starts of this phase."""

    slot: Slot
    source: str
    release: int
    phase: Phase
    attempts: int = 1
    reason: str = Field("", description="why it is taken back")


class Journal(_Part):
    """Be `journal.json`."""

    spec_version: Literal[1] = 1
    life: str = Field(default_factory=lambda: secrets.token_hex(8), description="another after each fresh install")
    highest: int = Field(0, description="the newest release that was believed: no older one is, ever")
    a: Held | None = None
    b: Held | None = None
    change: Change | None = None
    bad: dict[str, str] = Field(default_factory=dict, description="bundles that failed here, with the reason")
    boots: int = Field(0, description="starts since the bundle that serves was last seen well")

    def held(self, slot: Slot) -> Held | None:
        """Give what a slot holds, where it can be relied on."""
        return self.a if slot == "a" else self.b


def other(slot: Slot) -> Slot:
    """Give the slot beside this one."""
    return "b" if slot == "a" else "a"


def read_journal(file: Path) -> Journal | None:
    """Read a journal; None where there is none, or where the disk has damaged it."""
    try:
        return Journal.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def write_journal(file: Path, journal: Journal) -> None:
    """Replace the journal, durably; raises UserError where the disk is full."""
    write_durably(file, journal.model_dump_json(indent=1).encode() + b"\n")


def with_bad(journal: Journal, source: str, reason: str) -> dict[str, str]:
    """Give what is known to fail, with one more; the oldest are forgotten."""
    known = {name: why for name, why in journal.bad.items() if name != source} | {source: reason[:500]}
    return dict(list(known.items())[-MOST_BAD:])
