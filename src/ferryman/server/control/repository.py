"""Decide which versions are served: load new ones, switch over without a gap, and let old ones go."""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from ferryman.bundle.read import load_bundle
from ferryman.core.errors import FerrymanError, NotFound, NotReady, UserError
from ferryman.core.plugins import find, runtime_for
from ferryman.server.control.crew import Choices, Crew, NoMemory
from ferryman.server.control.device import require_engine
from ferryman.server.control.forever import forever
from ferryman.server.control.line import Line
from ferryman.server.control.opening import Opener
from ferryman.server.control.rollout_run import Health
from ferryman.server.control.seat import spread
from ferryman.server.control.shelf import Edition, Shelf, look
from ferryman.server.control.supervisor import Supervisor
from ferryman.server.control.wishes import Wishes

_log = logging.getLogger("ferryman.server")


class Repository:
    """Serve the bundles below some paths. `scan` before the loop runs, then `start`, and `close` at the end.

    A version that can't be read, breaks its contract or answers a golden sample wrong never replaces one that serves;
    where none serves, the highest that can takes its place.
    """

    def __init__(self, paths: Sequence[Path], crew: Crew, choices: Choices | None = None) -> None:
        self.shelf = Shelf()
        self.lines: dict[str, Line] = {}
        self._paths = list(paths)
        self._crew = crew
        self._choices: Choices = choices if choices is not None else NoMemory()
        self._wishes = Wishes(self._choices)
        self._opener = Opener(crew, self.lines, self._mend)
        self._tasks: set[asyncio.Task[object]] = set()
        crew.plane.observers.append(self._opener.observe)
        crew.plane.on_missing = self._wake

    def scan(self) -> None:
        """Find the bundles and check those that were named themselves; blocks.

        Raises BundleError, ConfigError, ContractBroken, MissingExtra and PlanError for what could never be served.
        """
        require_engine(self._crew.settings.device_engine)
        self.shelf = look(self._paths, is_strict=True)
        for edition in self._named():
            self._opener.read_ahead(edition)
        for path, problem in self.shelf.problems.items():
            _log.error("%s is not served: %s", path, problem)
        if self._paths and not self.shelf.editions and not self._crew.settings.watch_s:
            raise UserError(
                f"there is no bundle in {self._paths[0]}", hint="a repository holds MODEL/VERSION, each a bundle"
            )
        for edition in [*(self._ranked(name)[0] for name in self.shelf.editions), *self._wanted_beside()]:
            if edition.version not in self._crew.plane.versions(edition.name):
                self._crew.plane.announce(edition.name, edition.version, is_expected=True)

    def modules(self) -> list[str]:
        """Name what the workers will import, so that it can be done once, ahead."""
        formats = {edition.format for editions in self.shelf.editions.values() for edition in editions.values()}
        plugins = [runtime_for(model_format, serves=True) for model_format in sorted(formats - {""})]
        plugins += [find("tasks", kind) for kind in sorted(self._opener.tasks_ahead())]
        return list(
            dict.fromkeys(["numpy", *(need for plugin in plugins for need in getattr(plugin.cls, "needs", ()))])
        )

    async def start(self) -> None:
        """Load every model's version of choice, and all that was named itself or chosen to run beside it; then watch.

        Returns when each is ready or refused.
        """
        await asyncio.gather(*(self._choose(name) for name in self.shelf.editions))
        for edition in self._wanted_beside():
            line = self._line(edition.name)
            if not line.serves(edition) and not line.has_failed(edition):
                await self._serve_quietly(edition, activate=False)
        if self._crew.settings.watch_s:
            self._spawn(forever(self.refresh, "looking at the repository", every_s=self._crew.settings.watch_s))
        if self._opener.ceiling is not None:
            self._spawn(self._opener.ceiling.keep(10 * self._crew.settings.check_s))

    async def load(self, name: str, version: str | None = None, *, activate: bool = True) -> None:
        """Serve a version (by default the one of choice), and make it the active one unless told otherwise.

        Looks at the disk first: the same version with new content is loaded beside the old one, then takes its place.
        A version that is named and activated is the one of choice from now on, unless it is the highest: then newer
        ones take over. Raises NotFound, NotReady, and whatever is wrong with the bundle; what was served before still
        is, then, and where nothing was, the highest version that can be.
        """
        await self._look()
        edition = self._edition(name, version)
        await self._load(edition, activate=activate)
        if activate and version is not None:
            is_highest = edition == self.shelf.ranked(name)[0]
            await self.activate(name, version, keep_old=False, is_chosen=not is_highest)

    async def look_for(self, name: str, version: str) -> None:
        """See that a version is there to be loaded; raises NotFound with those that are."""
        await self._look()
        self._edition(name, version)

    async def load_beside(self, name: str, version: str) -> None:
        """Serve a version to those who name it, beside the active one, now and after a restart; raises as `load`."""
        await self._look()
        edition = self._edition(name, version)
        was_beside = version in self._wishes.beside(name)
        await self._wishes.add(name, version)  # first: nothing that is under way may make it the active one
        try:
            await self._load(edition, activate=False)
        except FerrymanError:
            if not was_beside:
                await self._wishes.drop(name, version)
            raise

    async def activate(self, name: str, version: str, *, keep_old: bool = True, is_chosen: bool = True) -> None:
        """Answer requests that name no version with this one; loads it where it isn't.

        Where it `is_chosen` that holds over a restart, and whatever comes, until `follow`. The version that was active
        until now stays loaded, or is drained and unloaded. Raises NotReady for a version that has lost its workers.
        """
        line = self._line(name)
        is_new = version not in line.running
        if is_new:
            await self._serve(self._edition(name, version), activate=False)
        elif trouble := line.running[version].trouble:
            raise NotReady(f"version {version} of model '{name}' {trouble}", hint="load it again")
        try:
            await self._wishes.choose(name, version if is_chosen else None)
        except FerrymanError:
            if is_new:
                await self.unload(name, version)
            raise
        self._switch(line, name, version, keep_old=keep_old)

    async def follow(self, name: str) -> None:
        """Choose no version any more: the highest serves, now and when a new one comes; raises NotFound."""
        await self._look()
        self._edition(name, None)
        await self._wishes.choose(name, None)
        await self._choose(name)

    def chosen(self, name: str) -> str | None:
        """Give the version that somebody chose; None where the highest serves."""
        return self._wishes.chosen(name)

    async def unload(self, name: str, version: str | None = None) -> None:
        """Serve a version, or all of them, no more, once what was asked is answered; ends loads that are under way.

        Only a load, or a restart, brings back what was unloaded. Raises NotFound.
        """
        line, plane = self.lines.get(name, Line()), self._crew.plane
        there = {*line.running, *line.evicted, *plane.versions(name)}
        if not line.cancel(version) and (version not in there if version else not there):
            what = f"version '{version}' of model '{name}'" if version else f"model '{name}'"
            raise NotFound(f"{what} is not loaded")
        gone = there if version is None else {version}
        line.unwanted |= set() if version is None else gone
        line.is_wanted = bool({*line.running, *line.evicted} - gone)
        await self._wishes.drop(name, version)
        async with line.lock:
            leaving = [line.running.pop(known) for known in gone if known in line.running]
            for known in gone:
                plane.remove(name, known)
                line.evicted.pop(known, None)
                line.failures.pop(known, None)
        stopping = [self._opener.stop(supervisor) for supervisor in leaving]
        for known in gone - {supervisor.version for supervisor in leaving}:
            self._crew.metrics.forget(name, known)
        _log.info("model '%s'%s is unloaded", name, f" version {version}" if version else "")
        await asyncio.gather(*stopping)

    async def refresh(self) -> None:
        """Look at the disk and serve what is new, where no rollout runs and nobody unloaded it.

        What is gone from the disk is still served: only `unload` ends a model.
        """
        await self._look()
        await asyncio.gather(*(self._choose(name) for name in self.shelf.editions))

    def index(self) -> list[dict[str, str]]:
        """List every version that is served, fails, or could be loaded, with its state and the reason."""
        rows = self._crew.plane.index()
        known = {(row["name"], row["version"]) for row in rows}
        for name, editions in self.shelf.editions.items():
            line = self.lines.get(name, Line())
            for version in editions:
                if (name, version) not in known:
                    failure = line.failures.get(version)
                    reason = failure.reason if failure else "is not loaded"
                    rows.append({"name": name, "version": version, "state": "UNAVAILABLE", "reason": reason})
        return rows

    def health(self, name: str, version: str) -> Health | None:
        """Give a version's health; None where it isn't loaded."""
        supervisor = self._line(name).running.get(version) if name in self.lines else None
        if supervisor is None:
            return None
        return Health(supervisor.restarts, supervisor.golden_ok, supervisor.last_error)

    def device_engines(self) -> Mapping[tuple[str, ...], float]:
        """Give 1 for each engine of this device that serves, else 0; by model, version, engine and state."""
        return self._opener.devices.standings()

    async def close(self) -> None:
        """Stop every worker; whoever still waits gets NotReady."""
        loads = [task for line in self.lines.values() for task in line.loads]
        waited = [*loads, *self._tasks]
        for task in waited:
            task.cancel()
        await asyncio.gather(*waited, return_exceptions=True)
        await self._opener.close()
        self._choices.close()

    def _mend(self, supervisor: Supervisor) -> None:
        """Have something else serve where a version has lost its last worker."""
        edition = self.shelf.find(supervisor.name, supervisor.version) if supervisor.engine is not None else None
        self._spawn(self._replace(edition))

    async def _replace(self, edition: Edition | None) -> None:
        """Serve an edition with the bundle's own engine; where that can't be, the best that is on the disk."""
        if edition is None or not await self._serve_quietly(edition, activate=False):
            await self.refresh()

    def _line(self, name: str) -> Line:
        return self.lines.setdefault(name, Line())

    def _ranked(self, name: str) -> list[Edition]:
        """Give a model's editions in the order in which they should serve it."""
        return self._wishes.rank(name, self.shelf.ranked(name))

    def _beside(self, name: str) -> list[Edition]:
        found = [self.shelf.find(name, version) for version in self._wishes.beside(name)]
        return [edition for edition in found if edition is not None]

    def _wanted_beside(self) -> list[Edition]:
        return [*self._named(), *(edition for name in self.shelf.editions for edition in self._beside(name))]

    def _edition(self, name: str, version: str | None) -> Edition:
        ranked = self._ranked(name)
        if not ranked:
            known = ", ".join(sorted(self.shelf.editions)) or "none"
            raise NotFound(f"no bundle of a model '{name}' is there", hint=f"there are bundles of {known}")
        edition = ranked[0] if version is None else self.shelf.find(name, version)
        if edition is None:
            known = ", ".join(edition.version for edition in ranked)
            raise NotFound(f"no bundle of model '{name}' has version '{version}'", hint=f"there are versions {known}")
        return edition

    async def _load(self, edition: Edition, *, activate: bool) -> None:
        """Serve an edition because somebody asks for it; where nothing serves then, the best that can."""
        line = self._line(edition.name)
        if line.serves(edition):
            await asyncio.to_thread(load_bundle, edition.path)  # it runs, but could it be started again?
        try:
            await self._serve(edition, activate=activate)
        except FerrymanError:
            if not (line.running or line.evicted):
                await self._choose(edition.name)
            raise

    async def _look(self) -> None:
        shelf = await asyncio.to_thread(look, self._paths, is_strict=False)
        for path, problem in shelf.problems.items():
            if self.shelf.problems.get(path) != problem:
                _log.error("%s is not served: %s", path, problem)
        self._tell_of_passed_over(shelf)
        self.shelf = shelf
        for name, line in self.lines.items():
            for version, failure in list(line.failures.items()):
                now = shelf.find(name, version)
                if now == failure.edition:
                    continue
                del line.failures[version]
                is_elsewhere = self._crew.plane.active(name) != version  # else it says so until it is tried again
                if version not in {*line.running, *line.evicted} and (is_elsewhere or now is None):
                    self._crew.plane.remove(name, version)
                    self._crew.metrics.forget(name, version)

    def _tell_of_passed_over(self, shelf: Shelf) -> None:
        for name in shelf.editions:
            highest, chosen = shelf.ranked(name)[0].version, self._wishes.chosen(name)
            if chosen not in (None, highest) and shelf.find(name, chosen) and not self.shelf.find(name, highest):
                _log.warning(
                    "model '%s': version %s is there, but %s was chosen: activate another, or none",
                    name,
                    highest,
                    chosen,
                )

    async def _choose(self, name: str) -> None:
        """Have the best version serve that can; what has failed before is tried again only with new content.

        Does nothing for a model that somebody unloaded, or in a rollout. Where nothing can serve for a reason that may
        pass, it is tried again later.
        """
        line = self._line(name)
        async with line.choosing:
            for edition in self._ranked(name):
                line.give_up(edition)
                if not line.is_wanted or self._is_rolled_out(name):
                    return
                if line.has_failed(edition) or edition.version in line.unwanted:
                    continue
                if line.serves(edition):
                    if self._crew.plane.active(name) in line.failures:
                        self._switch(line, name, edition.version, keep_old=True)
                    return
                with contextlib.suppress(FerrymanError):  # kept and logged where it arose
                    await self._serve(edition)
                    await self._forget_gone(name)
                    return
            if not line.is_waiting and any(failure.may_pass for failure in line.failures.values()):
                line.is_waiting = True
                self._spawn(self._choose_later(name))

    async def _forget_gone(self, name: str) -> None:
        """Forget a chosen version that is gone: what comes back under its name one day is something else."""
        chosen = self._wishes.chosen(name)
        if chosen is not None and self.shelf.find(name, chosen) is None:
            _log.warning("model '%s': version %s was the chosen one, and is gone: the highest serves", name, chosen)
            await self._wishes.choose(name, None)

    async def _choose_later(self, name: str) -> None:
        line = self._line(name)
        await asyncio.sleep(spread(self._crew.settings.patience.longest_s))
        line.is_waiting = False
        for version in [version for version, failure in line.failures.items() if failure.may_pass]:
            del line.failures[version]
        await self._choose(name)

    def _is_rolled_out(self, name: str) -> bool:
        line = self._line(name)
        beside = {edition.version for edition in [*self._beside(name), *self._named()]}
        return len({*line.running, *line.loads.values()} - beside) > 1

    def _named(self) -> list[Edition]:
        """Give the bundles that were named themselves: all of them are served, also where they are one model's."""
        editions = [edition for versions in self.shelf.editions.values() for edition in versions.values()]
        return [edition for edition in editions if edition.path in self._paths]

    async def _serve_quietly(self, edition: Edition, *, activate: bool) -> bool:
        with contextlib.suppress(FerrymanError):  # kept and logged where it arose
            await self._serve(edition, activate=activate)
            return True
        return False

    async def _serve(self, edition: Edition, *, activate: bool = True) -> None:
        line = self._line(edition.name)
        line.is_wanted = True
        line.unwanted.discard(edition.version)
        await line.run(self._serve_in_turn(line, edition, activate=activate), edition.name, edition.version)

    async def _serve_in_turn(self, line: Line, edition: Edition, *, activate: bool) -> None:
        async with line.lock:
            old = line.running.get(edition.version)
            await self._opener.open(line, edition)
            if old is not None and old is not line.running[edition.version]:
                self._spawn(self._opener.stop(old))
            if activate:
                self._switch(line, edition.name, edition.version, keep_old=False)

    def _switch(self, line: Line, name: str, version: str, *, keep_old: bool) -> None:
        plane = self._crew.plane
        before = plane.active(name)
        plane.activate(name, version)
        if before is None or before == version:
            return
        if before in {*line.running, *line.evicted}:
            _log.info("model '%s': version %s took the place of %s", name, version, before)
        if not keep_old and before not in self._wishes.beside(name):
            plane.remove(name, before)
            line.evicted.pop(before, None)
            if (old := line.running.pop(before, None)) is not None:
                self._spawn(self._opener.stop(old))

    def _wake(self, name: str) -> bool:
        """Load again what was evicted; tells whether it is on its way."""
        line = self._line(name)
        found = [self.shelf.find(name, version) for version in line.evicted]
        for edition in found:
            if edition is not None and edition.version not in line.waking:
                line.waking.add(edition.version)
                self._spawn(self._serve_quietly(edition, activate=False))
        return any(found)

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:  # what it awaits is its own
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
