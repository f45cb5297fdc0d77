"""Decide which versions are served: load new ones, switch over without a gap, and let old ones go."""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from ferryman.core.errors import FerrymanError, NotFound, NotReady, UserError
from ferryman.core.plugins import find, runtime_for
from ferryman.server.control.crew import Choices, Crew, NoMemory
from ferryman.server.control.forever import forever
from ferryman.server.control.line import Line
from ferryman.server.control.opening import Opener
from ferryman.server.control.rollout_run import Health
from ferryman.server.control.shelf import Edition, Shelf, look

_log = logging.getLogger("ferryman.server")


class Repository:
    """Serve the bundles below some paths. `scan` before the loop runs, then `start`, and `close` at the end.

    A version that can't be read, breaks its contract or answers a golden sample wrong never replaces one that serves.
    """

    def __init__(self, paths: Sequence[Path], crew: Crew, choices: Choices | None = None) -> None:
        self.shelf = Shelf()
        self.lines: dict[str, Line] = {}
        self._paths = list(paths)
        self._crew = crew
        self._choices: Choices = choices if choices is not None else NoMemory()
        self._opener = Opener(crew, self.lines, lambda: self._spawn(self.refresh()))
        self._tasks: set[asyncio.Task[None]] = set()
        crew.plane.observers.append(self._opener.observe)
        crew.plane.on_missing = self._wake

    def scan(self) -> None:
        """Find the bundles and check those that were named themselves; blocks.

        Raises BundleError, ConfigError, ContractBroken, MissingExtra and PlanError for what could never be served.
        """
        self.shelf = look(self._paths, is_strict=True)
        for edition in self._named():
            self._opener.read_ahead(edition)
        for path, problem in self.shelf.problems.items():
            _log.error("%s is not served: %s", path, problem)
        if self._paths and not self.shelf.editions and not self._crew.settings.watch_s:
            raise UserError(f"there is no bundle at {self._paths[0]}", hint="ferryman build makes bundles")

    def modules(self) -> list[str]:
        """Name what the workers will import, so that it can be done once, ahead."""
        formats = {edition.format for editions in self.shelf.editions.values() for edition in editions.values()}
        plugins = [runtime_for(model_format, serves=True) for model_format in sorted(formats)]
        plugins += [find("tasks", kind) for kind in sorted(self._opener.tasks_ahead())]
        return list(
            dict.fromkeys(["numpy", *(need for plugin in plugins for need in getattr(plugin.cls, "needs", ()))])
        )

    async def start(self) -> None:
        """Load every model's version of choice, and every bundle that was named itself, then go on watching.

        Returns when each is ready or refused.
        """
        for name in self.shelf.editions:
            self._crew.plane.announce(name, self.choice(name))
        for edition in self._named():
            if edition.version != self.choice(edition.name):
                self._crew.plane.announce(edition.name, edition.version)
        await self._load_wanted()
        for edition in self._named():
            if edition.version != self.choice(edition.name):
                await self._serve_quietly(edition, activate=False)
        if self._crew.settings.watch_s:
            self._spawn(forever(self.refresh, "looking at the repository", every_s=self._crew.settings.watch_s))
        if self._opener.ceiling is not None:
            self._spawn(self._opener.ceiling.keep(10 * self._crew.settings.check_s))

    async def load(self, name: str, version: str | None = None, *, activate: bool = True) -> None:
        """Serve a version (by default the one of choice), and make it the active one unless told otherwise.

        Looks at the disk first: the same version with new content is loaded beside the old one, then takes its place.
        A version that is named and activated is the operator's choice from now on. Raises NotFound, NotReady, and
        whatever is wrong with the bundle; what was served before still is, then.
        """
        await self._look()
        edition = self._edition(name, version)
        if activate and version is not None:
            await self._serve(edition)
            await self.activate(name, version, keep_old=False)
        else:
            await self._serve(edition, activate=activate)

    async def activate(self, name: str, version: str, *, keep_old: bool = True) -> None:
        """Answer requests that name no version with this one, now and after a restart; loads it where it isn't.

        The version that did so until now stays loaded, or is drained and unloaded. Raises NotReady for a version that
        has lost its workers.
        """
        line = self._line(name)
        if version not in line.running:
            await self._serve(self._edition(name, version), activate=False)
        elif trouble := line.running[version].trouble:
            raise NotReady(f"version {version} of model '{name}' {trouble}", hint="load it again")
        await self._choices.put(f"active/{name}", version)
        self._switch(line, name, version, keep_old=keep_old)

    async def unload(self, name: str, version: str | None = None) -> None:
        """Serve a version, or all of them, no more, once what was asked is answered; ends loads that are under way.

        Raises NotFound.
        """
        line = self.lines.get(name, Line())
        is_known = line.running or line.evicted if version is None else version in {*line.running, *line.evicted}
        if not line.cancel(version) and not is_known:
            what = f"version '{version}' of model '{name}'" if version else f"model '{name}'"
            raise NotFound(f"{what} is not loaded")
        if version is None:
            line.is_wanted = False
        async with line.lock:
            leaving = [each for each in line.running.values() if version in (None, each.version)]
            for known in self._crew.plane.versions(name) if version is None else [version]:
                self._crew.plane.remove(name, known)
                if line.running.pop(known, None) is None:
                    self._crew.metrics.forget(name, known)
                line.evicted.pop(known, None)
        _log.info("model '%s'%s is unloaded", name, f" version {version}" if version else "")
        await asyncio.gather(*(self._opener.stop(supervisor) for supervisor in leaving))

    async def refresh(self) -> None:
        """Look at the disk and serve what is new, where no rollout runs and nobody unloaded it.

        What is gone from the disk is still served: only `unload` ends a model.
        """
        await self._look()
        await self._load_wanted()

    def choice(self, name: str) -> str:
        """Give the version that is served by default: the operator's choice while it is there, else the highest."""
        chosen = self._choices.get(f"active/{name}")
        if isinstance(chosen, str) and self.shelf.find(name, chosen):
            return chosen
        highest = self.shelf.highest(name)
        if highest is None:
            known = ", ".join(sorted(self.shelf.editions)) or "none"
            raise NotFound(f"no bundle of a model '{name}' is there", hint=f"there are bundles of {known}")
        return highest

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

    async def close(self) -> None:
        """Stop every worker; whoever still waits gets NotReady."""
        loads = [task for line in self.lines.values() for task in line.loads]
        waited = [*loads, *self._tasks]
        for task in waited:
            task.cancel()
        await asyncio.gather(*waited, return_exceptions=True)
        await self._opener.close()
        self._choices.close()

    def _line(self, name: str) -> Line:
        return self.lines.setdefault(name, Line())

    def _edition(self, name: str, version: str | None) -> Edition:
        wanted = version if version is not None else self.choice(name)
        edition = self.shelf.find(name, wanted)
        if edition is None:
            known = ", ".join(self.shelf.editions.get(name, {})) or "none"
            raise NotFound(f"model '{name}' has no version '{wanted}'", hint=f"it has {known}")
        return edition

    async def _look(self) -> None:
        shelf = await asyncio.to_thread(look, self._paths, is_strict=False)
        for path, problem in shelf.problems.items():
            if self.shelf.problems.get(path) != problem:
                _log.error("%s is not served: %s", path, problem)
        self.shelf = shelf
        for name, line in self.lines.items():
            for version in [version for version in line.failures if shelf.find(name, version) is None]:
                del line.failures[version]
                if version not in {*line.running, *line.evicted}:
                    self._crew.metrics.forget(name, version)

    async def _load_wanted(self) -> None:
        editions = [self._edition(name, None) for name in self.shelf.editions if self._is_wanted(name)]
        await asyncio.gather(*(self._serve_quietly(edition) for edition in editions))

    def _is_wanted(self, name: str) -> bool:
        """Tell whether there is news of a model that may be served without being asked for."""
        line = self._line(name)
        edition = self._edition(name, None)
        if not line.is_wanted or len(line.running) > 1:  # unloaded by somebody; in a rollout
            return False
        failure, running = line.failures.get(edition.version), line.running.get(edition.version)
        has_failed = failure is not None and failure.digest == edition.digest
        is_served = running is not None and running.bundle.manifest.digest == edition.digest
        return not has_failed and not is_served and edition.version not in line.evicted

    def _named(self) -> list[Edition]:
        """Give the bundles that were named themselves: all of them are served, also where they are one model's."""
        editions = [edition for versions in self.shelf.editions.values() for edition in versions.values()]
        return [edition for edition in editions if edition.path in self._paths]

    async def _serve_quietly(self, edition: Edition, *, activate: bool = True) -> None:
        try:
            await self._serve(edition, activate=activate)
        except FerrymanError:
            return  # kept and logged where it arose

    async def _serve(self, edition: Edition, *, activate: bool = True) -> None:
        line = self._line(edition.name)
        line.is_wanted = True
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
        _log.info("model '%s': version %s took the place of %s", name, version, before)
        if not keep_old:
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
                self._spawn(self._wake_quietly(edition))
        return any(found)

    async def _wake_quietly(self, edition: Edition) -> None:
        with contextlib.suppress(FerrymanError):
            await self._serve(edition, activate=False)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:  # what it awaits is its own
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
