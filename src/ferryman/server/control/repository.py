"""Decide which versions are served: load new ones, switch over without a gap, and let old ones go."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import Bundle
from ferryman.core.errors import BundleError, ContractBroken, FerrymanError, NotFound, NotReady, UserError
from ferryman.core.plugins import find, runtime_for
from ferryman.core.runtime import available_cores
from ferryman.server.control.crew import Choices, Crew, NoMemory
from ferryman.server.control.shelf import Edition, Shelf, look
from ferryman.server.control.supervisor import Supervisor
from ferryman.server.data.models import Served

_log = logging.getLogger("ferryman.server")


@dataclass(frozen=True, slots=True)
class Failure:
    """Hold why an edition could not be served; `digest` says of which content."""

    digest: str
    reason: str


@dataclass(slots=True)
class Line:
    """Hold what runs of one model. `unloads` counts, so that a load which waited through one knows."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    running: dict[str, Supervisor] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    loading: asyncio.Task[Served] | None = None
    unloads: int = 0
    is_wanted: bool = True
    holds: int = 0


class Repository:
    """Serve the bundles below some paths. `scan` before the loop runs, then `start`, and `close` at the end.

    A version that can't be read, breaks its contract or answers a golden sample wrong never replaces one that serves.
    """

    def __init__(self, paths: Sequence[Path], crew: Crew, choices: Choices | None = None) -> None:
        self._paths = list(paths)
        self._crew = crew
        self._choices: Choices = choices if choices is not None else NoMemory()
        self._shelf = Shelf()
        self._lines: dict[str, Line] = {}
        self._read: dict[str, Bundle] = {}  # by digest: read before the server began, and not loaded yet
        self._generation = 0
        self._at_once = asyncio.Semaphore(max(available_cores(), 1))
        self._tasks: set[asyncio.Task[None]] = set()

    def scan(self) -> None:
        """Find the bundles and check those that were named themselves; blocks.

        Raises BundleError, ConfigError, ContractBroken, MissingExtra and PlanError for what could never be served.
        """
        self._shelf = look(self._paths, is_strict=True)
        for name in self._shelf.editions:
            edition = self._shelf.editions[name][self.choice(name)]
            if edition.path in self._paths:
                self._read[edition.digest] = self._read_bundle(edition)
        self._report_problems()

    def formats(self) -> set[str]:
        """Give the formats of all models, so that what loads them can be imported ahead."""
        return {edition.format for editions in self._shelf.editions.values() for edition in editions.values()}

    async def start(self) -> None:
        """Load every model's version of choice; returns when each is ready or refused."""
        for name in self._shelf.editions:
            self._crew.plane.announce(name, self.choice(name))
        await asyncio.gather(*(self._load_quietly(name) for name in list(self._shelf.editions)))

    async def load(self, name: str, version: str | None = None, *, activate: bool = True) -> Served:
        """Serve a version (by default the one of choice), and make it the active one unless told otherwise.

        Returns at once where it is served already. Raises NotFound, NotReady, and whatever is wrong with the bundle; what
        was served before still is, then.
        """
        self._shelf = await asyncio.to_thread(look, self._paths, is_strict=False)
        edition = self._edition(name, version)
        line = self._line(name)
        line.is_wanted = True
        unloads = line.unloads
        async with line.lock:
            if line.unloads != unloads:
                raise NotReady(f"model '{name}' was unloaded before it was loaded")
            line.loading = asyncio.create_task(self._bring(line, edition))
            try:
                served = await asyncio.shield(line.loading)
            except asyncio.CancelledError:
                if line.loading.cancelled():
                    raise NotReady(f"model '{name}' was unloaded while it was loading") from None
                raise
            if activate:
                self._switch(line, served, keep_old=False)
        if activate and version is not None:
            await self._choices.put(f"active/{name}", version)
        return served

    async def activate(self, name: str, version: str, *, keep_old: bool = False) -> None:
        """Answer requests without a version with this one, now and after a restart; loads it where it isn't.

        The version that did so until now is drained and unloaded unless `keep_old`.
        """
        served = await self.load(name, version, activate=False)
        self._switch(self._line(name), served, keep_old=keep_old)
        await self._choices.put(f"active/{name}", version)

    async def unload(self, name: str, version: str | None = None) -> None:
        """Serve a version, or all versions, no more; what is asked already is answered. Raises NotFound."""
        line = self._lines.get(name)
        if line is None or (version is not None and version not in line.running):
            what = f"version '{version}' of model '{name}'" if version else f"model '{name}'"
            raise NotFound(f"{what} is not loaded")
        if version is None:
            line.is_wanted = False
            line.unloads += 1
            if line.loading is not None:
                line.loading.cancel()
        async with line.lock:
            leaving = [line.running[version]] if version else list(line.running.values())
            for known in [version] if version else self._crew.plane.versions(name):
                self._crew.plane.remove(name, known)
            for supervisor in leaving:
                line.running.pop(supervisor.version, None)
        await asyncio.gather(*(self._stop(supervisor) for supervisor in leaving))

    def choice(self, name: str) -> str:
        """Give the version that is served by default: the operator's choice while it is there, else the highest."""
        chosen = self._choices.get(f"active/{name}")
        if isinstance(chosen, str) and self._shelf.find(name, chosen):
            return chosen
        highest = self._shelf.highest(name)
        if highest is None:
            raise NotFound(f"no bundle of model '{name}' is there", hint=f"there are {sorted(self._shelf.editions)}")
        return highest

    async def close(self) -> None:
        """Stop every worker; whoever still waits gets NotReady."""
        for line in self._lines.values():
            line.unloads += 1
            if line.loading is not None:
                line.loading.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        running = [supervisor for line in self._lines.values() for supervisor in line.running.values()]
        await asyncio.gather(*(supervisor.stop(drain_s=0) for supervisor in running))

    def _line(self, name: str) -> Line:
        return self._lines.setdefault(name, Line())

    def _edition(self, name: str, version: str | None) -> Edition:
        wanted = version if version is not None else self.choice(name)
        edition = self._shelf.find(name, wanted)
        if edition is None:
            known = ", ".join(self._shelf.editions.get(name, {})) or "none"
            raise NotFound(f"model '{name}' has no version '{wanted}'", hint=f"it has {known}")
        return edition

    async def _load_quietly(self, name: str) -> None:
        try:
            await self.load(name)
        except FerrymanError:
            pass  # kept and logged where it arose

    async def _bring(self, line: Line, edition: Edition) -> Served:
        """Have a supervisor serve an edition, and the dataplane know of it."""
        old = line.running.get(edition.version)
        if old is not None and old.bundle.manifest.digest == edition.digest and not old.trouble:
            return old.served
        plane = self._crew.plane
        if old is None:
            plane.announce(edition.name, edition.version)
        try:
            async with self._at_once:
                supervisor = await self._start(edition)
        except asyncio.CancelledError:
            if old is None:
                plane.remove(edition.name, edition.version)
            raise
        except Exception as error:
            self._fail(line, edition, error, is_new=old is None)
            raise
        line.failures.pop(edition.version, None)
        line.running[edition.version] = supervisor
        plane.put(supervisor.served)
        if old is not None:
            self._let_go(old)
        _log.info("model '%s' version %s is served", edition.name, edition.version)
        return supervisor.served

    async def _start(self, edition: Edition) -> Supervisor:
        bundle = self._read.pop(edition.digest, None)
        if bundle is None:
            bundle = await asyncio.to_thread(self._read_bundle, edition)
        supervisor = Supervisor(edition.version, bundle, self._crew, self._changed)
        await supervisor.start()
        self._generation += 1
        supervisor.generation = self._generation
        return supervisor

    def _fail(self, line: Line, edition: Edition, error: Exception, *, is_new: bool) -> None:
        is_told = isinstance(error, FerrymanError)
        reason = str(error) if is_told else f"can't be loaded: {type(error).__name__}: {error}"
        line.failures[edition.version] = Failure(edition.digest, reason)
        _log.error(
            "model '%s' version %s %s", edition.name, edition.version, reason, exc_info=None if is_told else error
        )
        if is_new:
            self._crew.plane.refuse(edition.name, edition.version, reason=reason)

    def _switch(self, line: Line, served: Served, *, keep_old: bool) -> None:
        plane = self._crew.plane
        before = plane.active(served.name)
        plane.activate(served.name, served.version)
        if before is None or before == served.version or keep_old:
            return
        old = line.running.pop(before, None)
        plane.remove(served.name, before)
        if old is not None:
            self._let_go(old)

    def _let_go(self, supervisor: Supervisor) -> None:
        """Drain and stop a supervisor that gets no more asks, beside everything else."""
        task = asyncio.create_task(self._stop(supervisor))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop(self, supervisor: Supervisor) -> None:
        await supervisor.stop(drain_s=self._crew.settings.drain_s)
        if supervisor.version not in self._line(supervisor.name).running:
            self._crew.metrics.forget(supervisor.name, supervisor.version)

    def _changed(self, supervisor: Supervisor, reason: str) -> None:
        """Know that a version lost its last worker for some time, or has one again."""
        if self._line(supervisor.name).running.get(supervisor.version) is not supervisor:
            return
        if reason:
            _log.error("model '%s' version %s is not ready: %s", supervisor.name, supervisor.version, reason)
            self._crew.plane.refuse(supervisor.name, supervisor.version, reason=reason)
            supervisor.served.lane.abandon(NotReady(f"model '{supervisor.name}' {reason}", hint="try again later"))
        else:
            _log.info("model '%s' version %s is ready again", supervisor.name, supervisor.version)
            self._crew.plane.put(supervisor.served)

    def _read_bundle(self, edition: Edition) -> Bundle:
        """Read a bundle in full and see that this machine has what it needs; blocks."""
        bundle = load_bundle(edition.path)
        if bundle.manifest.digest != edition.digest:
            raise BundleError(f"{edition.path} was replaced while it was read", hint="load it again")
        runtime_for(bundle.manifest.format, serves=True).require()
        find("tasks", bundle.deployment.task.kind).require()
        if not bundle.proof.holds:
            message = f"bundle {bundle.manifest.name} does not keep its contract: {bundle.proof.verdict}"
            if not self._crew.settings.allow_broken:
                raise ContractBroken(message, hint="--allow-broken serves it all the same")
            _log.warning("%s", message)
        return bundle

    def _report_problems(self) -> None:
        for path, problem in self._shelf.problems.items():
            _log.error("%s is not served: %s", path, problem)
        if not self._shelf.editions and self._paths:
            raise UserError(f"there is no bundle at {self._paths[0]}", hint="ferryman build makes bundles")
