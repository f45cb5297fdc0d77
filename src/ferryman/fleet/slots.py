"""Hold two slots of a box, a bundle each: one serves, the other takes what comes next."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import Bundle
from ferryman.core.errors import BundleError, Untrusted, UserError
from ferryman.fleet.durable import discard, explain, point_durably
from ferryman.fleet.journal import Change, Held, Journal, Phase, Slot, other, read_journal, with_bad, write_journal

ATTEMPTS = 3
"""Starts that a new bundle gets: of the box while it is new, or of one phase that a cut ended."""


class Slots:
    """Keep `slots/a`, `slots/b` and the link `current` below `root`; several processes may.

    Every method leaves the disk so that a power cut in it loses nothing: see `journal`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.current = root / "current"
        self.journal_file = root / "journal.json"
        try:
            (root / "slots").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain(error, root) from error
        if read_journal(self.journal_file) is None:
            self._change()

    @property
    def journal(self) -> Journal:
        """Give what is written down now."""
        return read_journal(self.journal_file) or self._fresh()

    @property
    def active(self) -> Slot | None:
        """Give the slot that `current` leads to; None before the first install."""
        try:
            name = os.readlink(self.current)
        except OSError:
            return None
        return "a" if name == "slots/a" else "b" if name == "slots/b" else None

    @property
    def idle(self) -> Slot:
        """Give the slot that nothing is served from."""
        return other(self.active) if self.active else "a"

    @property
    def serving(self) -> Held | None:
        """Give what `current` leads to, where it was seen well."""
        return self.journal.held(self.active) if self.active else None

    def has(self, source: str) -> bool:
        """Tell whether a bundle is here already, so that nothing is to be fetched for it."""
        journal = self.journal
        change = journal.change
        is_tried = change is not None and change.source == source and change.phase == "trying"
        return is_tried or any(held is not None and held.source == source for held in (journal.a, journal.b))

    def folder(self, slot: Slot) -> Path:
        """Give a slot's folder; it is the bundle's."""
        return self.root / "slots" / slot

    def load(self, slot: Slot) -> Bundle:
        """Read the bundle in a slot and check all of its digests; raises BundleError."""
        return load_bundle(self.folder(slot))

    def believe(self, release: int) -> None:
        """Remember the newest release; raises Untrusted for one that is older than what was believed before."""
        highest = self.journal.highest
        if release < highest:
            raise Untrusted(
                f"release {release} is older than {highest}, which this box has seen: it is refused",
                hint="to go back, publish the older bundle as a new release: ferryman fleet rollback",
            )
        if release > highest:
            self._change(highest=release)

    def begin(self, source: str, release: int) -> Change:
        """Give the idle slot to a bundle; go on where a cut ended it, or take the slot as it is where it holds it."""
        known = self.journal.change
        if known is not None and known.source == source and known.phase in ("filling", "trying"):
            return known
        slot = self.idle
        held = self.journal.held(slot)
        if held is not None and held.source == source:  # it served before: there is nothing to get
            change = Change(slot=slot, source=source, release=release, phase="trying")
            self._change(change=change)
            return change
        change = Change(slot=slot, source=source, release=release, phase="filling")
        self._change(change=change, **{slot: None})  # what lies there is worth what its files' digests say: a pull asks
        return change

    def enter(self, phase: Phase, *, reason: str = "") -> Change:
        """Write down that a change goes on to its next phase."""
        change = self.pending()
        attempts = change.attempts if phase == "trying" else 1
        changed = change.model_copy(update={"phase": phase, "attempts": attempts, "reason": reason})
        bad = {"bad": with_bad(self.journal, change.source, reason)} if phase == "returning" else {}
        self._change(change=changed, **bad)
        return changed

    def count_attempt(self) -> int:
        """Count one more start of the phase; gives how many there were."""
        change = self.pending()
        self._change(change=change.model_copy(update={"attempts": change.attempts + 1}))
        return change.attempts + 1

    def point(self, slot: Slot) -> None:
        """Lead `current` to a slot, in one step."""
        point_durably(self.current, f"slots/{slot}")

    def empty(self) -> None:
        """Begin a change anew whose slot holds no sound bundle: nothing that lies there is used again."""
        change = self.pending()
        again = change.model_copy(update={"phase": "filling", "attempts": change.attempts + 1})
        self._change(change=again, **{change.slot: None})
        discard(self.folder(change.slot))

    def keep(self, bundle: Bundle) -> None:
        """End a change well: its slot can be relied on from now on."""
        change = self.pending()
        name, digest = bundle.manifest.name, bundle.manifest.digest
        held = Held(source=change.source, model=name, digest=digest, release=change.release)
        self._change(change=None, boots=0, **{change.slot: held})

    def drop(self, *, reason: str = "") -> None:
        """End a change that did not come to a switch, or was taken back; with a reason its bundle isn't tried again."""
        journal = self.journal
        if journal.change is None:
            return
        bad = {"bad": with_bad(journal, journal.change.source, reason)} if reason else {}
        self._change(change=None, boots=0, **bad)

    def confirm(self) -> None:
        """Say that what serves was seen well since its start."""
        if self.journal.boots:
            self._change(boots=0)

    def boot(self) -> str:
        """Count a start of what serves. After three that nobody confirmed, lead `current` to the other slot.

        Gives what was done about it, "" for nothing. Runs before the server starts, also while no agent runs.
        """
        self.finish_switch()
        journal, active = self.journal, self.active
        if active is None or journal.boots < ATTEMPTS:
            if active is not None:
                self._change(boots=journal.boots + 1)
            return ""
        if journal.held(other(active)) is None or not self._is_whole(other(active)):
            return ""  # there is nothing better
        said = f"slot {active} was not well after {ATTEMPTS} starts: slot {other(active)} serves"
        if journal.change is not None and journal.change.phase == "watching":
            self.enter("returning", reason=f"not well after {ATTEMPTS} starts")
            self.finish_switch()
        else:
            self.point(other(active))
        self._change(boots=1)
        return said

    def finish_switch(self) -> None:
        """Do again what a cut may have ended: the leading of `current` to a slot or back."""
        change = self.journal.change
        if change is None or change.phase not in ("switching", "returning"):
            return
        if change.phase == "switching":
            self.point(change.slot)
            self.enter("watching")
            return
        if self.journal.held(other(change.slot)) is not None:
            self.point(other(change.slot))
        self.drop()

    @contextmanager
    def locked(self, name: str) -> Iterator[bool]:
        """Hold a lock for as long as it is wanted; gives whether it could be had."""
        try:
            stream = (self.root / f".{name}.lock").open("wb")
        except OSError as error:
            raise explain(error, self.root) from error
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True

    def pending(self) -> Change:
        """Give the change that is under way; raises UserError where there is none."""
        change = self.journal.change
        if change is None:
            raise UserError(f"{self.root}: no change is under way", hint="another process has ended it")
        return change

    def _change(self, **fields: Any) -> None:  # of Journal
        with (self.root / ".journal.lock").open("wb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)  # the agent and `boot` write
            write_journal(self.journal_file, self.journal.model_copy(update=fields))

    def _fresh(self) -> Journal:
        """Begin a journal; where `current` leads to a whole bundle, the disk has lost the old one."""
        slot = self.active
        if slot is None:
            return Journal()
        with suppress(BundleError):
            bundle = self.load(slot)
            held = Held(source="", model=bundle.manifest.name, digest=bundle.manifest.digest)
            return Journal().model_copy(update={slot: held})
        return Journal()

    def _is_whole(self, slot: Slot) -> bool:
        try:
            self.load(slot)
        except BundleError:
            return False
        return True
