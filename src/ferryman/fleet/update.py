"""Bring a bundle into service on a box: fill the idle slot, try it, switch, watch, and go back where it isn't well."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Literal

from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import Bundle
from ferryman.core.errors import BundleError, FerrymanError, Untrusted, WrongAnswers
from ferryman.core.progress import Progress, silent
from ferryman.fleet.journal import Held, other
from ferryman.fleet.service import Service, tell_error
from ferryman.fleet.slots import ATTEMPTS, Slots
from ferryman.supply.policy import Policy

Fetch = Callable[[str, Path], None]
"""Write the bundle that a reference names into a folder, all of it or nothing; what came before a break is not lost."""

Kind = Literal["unchanged", "updated", "waiting", "refused", "rolled back"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Say what came of an update; `waiting` ones are tried again, `refused` and `rolled back` ones never."""

    kind: Kind
    source: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Watch:
    """Say how long a new bundle is watched, and how often it may fail to answer in a row before it is taken back."""

    for_s: float = 60.0
    every_s: float = 1.0
    failures: int = 5


class Updater:
    """Change what a box serves, one change at a time."""

    def __init__(
        self,
        slots: Slots,
        service: Service,
        fetch: Fetch,
        policy: Policy,
        *,
        watch: Watch | None = None,
        stopping: Event | None = None,
    ) -> None:
        self._slots, self._service, self._fetch, self._policy = slots, service, fetch, policy
        self._watch = watch or Watch()
        self._stopping = stopping or Event()

    def resume(self, progress: Progress = silent) -> Outcome | None:
        """Go on with what a cut ended; None where there was nothing. What was being filled waits for its release."""
        self._slots.finish_switch()
        change = self._slots.journal.change
        if change is None or change.phase == "filling":
            return None
        if self._slots.count_attempt() > ATTEMPTS:
            reason = f"{ATTEMPTS} starts of '{change.phase}' did not come to an end"
            return self._go_back(reason) if change.phase == "watching" else self._refuse(change.source, reason)
        return self._try(progress) if change.phase == "trying" else self._watch_it(progress)

    def update(self, source: str, release: int, progress: Progress = silent) -> Outcome:
        """Bring a bundle, named by digest, into service."""
        journal = self._slots.journal
        serving = self._slots.serving
        if serving is not None and serving.source == source:
            if journal.change is not None:  # another release was being brought, and isn't wanted any more
                self._slots.drop()
            return Outcome("unchanged", source)
        if source in journal.bad:
            return Outcome("refused", source, journal.bad[source])
        if self._slots.begin(source, release).phase == "filling":
            progress("get", note=source)
            if (outcome := self._fill(source)) is not None:
                return outcome
            self._slots.enter("trying")
        return self._try(progress)

    def _fill(self, source: str) -> Outcome | None:
        """Fill the slot; gives what came of it where that is not a whole and trusted bundle."""
        folder = self._slots.folder(self._slots.idle)
        try:
            self._fetch(source, folder)
        except Untrusted as error:
            return self._refuse(source, tell_error(error))
        except (FerrymanError, OSError) as error:
            return Outcome("waiting", source, tell_error(error) if isinstance(error, FerrymanError) else str(error))
        return None

    def _try(self, progress: Progress) -> Outcome:
        change = self._slots.pending()
        progress("try", note=change.source)
        try:
            bundle = self._checked(self._slots.folder(change.slot))
            self._service.try_out(bundle)
        except (Untrusted, WrongAnswers) as error:
            return self._refuse(change.source, tell_error(error))
        except BundleError as error:
            if change.attempts >= ATTEMPTS:
                return self._refuse(change.source, tell_error(error))
            self._slots.empty()
            return Outcome("waiting", change.source, tell_error(error))
        except FerrymanError as error:
            return Outcome("waiting", change.source, tell_error(error))
        progress("switch", note=change.source)
        self._slots.enter("switching")
        self._slots.finish_switch()
        return self._watch_it(progress)

    def _checked(self, folder: Path) -> Bundle:
        """Read a slot's bundle and see that it may serve here; raises BundleError, Untrusted."""
        bundle = load_bundle(folder)
        self._policy.check(bundle)
        held = self._slots.serving
        if held is not None and held.model != bundle.manifest.name:
            raise Untrusted(
                f"it is a bundle of model '{bundle.manifest.name}', and this box serves '{held.model}'",
                hint="another model is another fleet",
            )
        return bundle

    def _watch_it(self, progress: Progress) -> Outcome:
        change = self._slots.pending()
        progress("watch", note=change.source)
        try:
            bundle = load_bundle(self._slots.folder(change.slot))
            self._service.take_up(bundle)
        except FerrymanError as error:
            return self._go_back(tell_error(error))
        failures, ends_s = 0, time.monotonic() + self._watch.for_s
        while True:
            try:
                self._service.check(bundle.manifest.name, bundle.manifest.digest)
                failures = 0
            except FerrymanError as error:
                failures += 1
                if failures >= self._watch.failures:
                    return self._go_back(tell_error(error))
            if not failures and time.monotonic() >= ends_s:
                self._slots.keep(bundle)
                return Outcome("updated", change.source)
            if self._stopping.wait(self._watch.every_s):
                return Outcome("waiting", change.source, "the agent was stopped; it goes on when it starts")

    def _refuse(self, source: str, reason: str) -> Outcome:
        self._slots.drop(reason=reason)
        return Outcome("refused", source, reason)

    def _go_back(self, reason: str) -> Outcome:
        change = self._slots.enter("returning", reason=reason)
        self._slots.finish_switch()
        self._take_up_again(self._slots.journal.held(other(change.slot)))
        return Outcome("rolled back", change.source, reason)

    def _take_up_again(self, held: Held | None) -> None:
        active = self._slots.active
        if held is None or active is None:
            return
        try:
            self._service.take_up(self._slots.load(active))
        except FerrymanError:
            return  # the server goes on with what it has, or takes it up when it starts
