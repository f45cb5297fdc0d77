"""Bring editions to life and take them out of service: between the repository's decisions and the dataplane."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping

from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import Bundle
from ferryman.core.errors import BundleError, ContractBroken, FerrymanError, MissingExtra, NotReady, WrongAnswers
from ferryman.core.plugins import find, runtime_for
from ferryman.core.runtime import available_cores
from ferryman.server.control.crew import Crew
from ferryman.server.control.device import Devices
from ferryman.server.control.line import Failure, Line
from ferryman.server.control.memory import Ceiling
from ferryman.server.control.rollout_figures import is_suspect
from ferryman.server.control.shelf import Edition
from ferryman.server.control.supervisor import Supervisor, why
from ferryman.server.data.ask import Ask, Reply
from ferryman.server.data.models import Served
from ferryman.server.data.worker.order import EngineOrder

_log = logging.getLogger("ferryman.server")
_ENGINES_OWN = (FerrymanError, MissingExtra)  # no kind of refusal: it may fail so from now on (a CUDA error sticks)


class Opener:
    """Start and stop supervisors, and tell the dataplane what became of them."""

    def __init__(self, crew: Crew, lines: Mapping[str, Line], on_trouble: Callable[[Supervisor], None]) -> None:
        limit_mb = crew.settings.max_memory_mb
        self.ceiling = Ceiling(limit_mb, self._residents, self._may_leave, self._evict) if limit_mb else None
        self.devices = Devices(crew, self._start, self.stop)
        self._crew = crew
        self._lines = lines
        self._on_trouble = on_trouble  # a version lost its last worker
        self._ahead: dict[str, Bundle] = {}  # by digest: read before the server began, and not loaded yet
        self._leaving: set[Supervisor] = set()  # what drains
        self._generation = 0
        # Under a ceiling one after the other: what a model takes is known only once it is there.
        self._turns = asyncio.Semaphore(1 if limit_mb else available_cores())

    def read_ahead(self, edition: Edition) -> None:
        """Read a bundle that will be opened; raises what is wrong with it. Blocks."""
        self._ahead[edition.digest] = self._read(edition)

    def tasks_ahead(self) -> set[str]:
        """Give the kinds of tasks of the bundles that were read ahead."""
        return {bundle.deployment.task.kind for bundle in self._ahead.values()}

    async def open(self, line: Line, edition: Edition) -> None:
        """Have a supervisor serve an edition, and the dataplane know of it; raises why it can't be.

        Does nothing where the same content is served already. The version's old supervisor is out of `line` then, and
        the caller's to stop.
        """
        old = line.running.get(edition.version)
        if old is not None and old.bundle.manifest.digest == edition.digest and not old.trouble:
            return
        plane = self._crew.plane
        if old is None and edition.version not in line.evicted:
            plane.announce(edition.name, edition.version)
        try:
            supervisor = await self._start(edition)
        except asyncio.CancelledError:
            line.waking.discard(edition.version)
            if old is None:
                plane.remove(edition.name, edition.version)
            raise
        except Exception as error:
            self._fail(line, edition, error, is_new=old is None)
            if isinstance(error, FerrymanError):
                raise
            raise NotReady(why(error, edition.path)) from error
        line.failures.pop(edition.version, None)
        line.evicted.pop(edition.version, None)
        line.waking.discard(edition.version)
        line.running[edition.version] = supervisor
        supervisor.enter()
        _log.info("model '%s' version %s is loaded", edition.name, edition.version)
        self.devices.follow(line, edition)

    def stop(self, supervisor: Supervisor) -> Coroutine[None, None, None]:
        """Drain and stop a supervisor that gets no more asks; `close` knows of it from now on."""
        self._leaving.add(supervisor)
        self.devices.forget(supervisor)
        return self._stop(supervisor)

    async def _stop(self, supervisor: Supervisor) -> None:
        await supervisor.stop(drain_s=self._crew.settings.drain_s)
        self._leaving.discard(supervisor)
        line = self._lines.get(supervisor.name)
        if line is None or supervisor.version not in {*line.running, *line.evicted}:
            self._crew.metrics.forget(supervisor.name, supervisor.version)

    async def close(self) -> None:
        """Stop every supervisor without waiting for answers."""
        await self.devices.close()
        await asyncio.gather(*(supervisor.stop(drain_s=0) for supervisor in {*self._residents(), *self._leaving}))

    def observe(
        self, ask: Ask, name: str, version: str, reply: Reply | None, error: FerrymanError | None, seconds: float
    ) -> None:
        """Know of an answer: that the model is in use, and whether its answer is a number, or no caller's mistake."""
        line = self._lines.get(name)
        supervisor = line.running.get(version) if line is not None else None
        if supervisor is not None:
            supervisor.last_used_s = ask.arrived_s
            if reply is not None and is_suspect(ask, reply):
                supervisor.doubt("nonfinite")
            elif type(error) in _ENGINES_OWN:
                supervisor.doubt("golden")

    async def _start(self, edition: Edition, engine: EngineOrder | None = None) -> Supervisor:
        async with self._turns:
            if self.ceiling is not None:
                await self.ceiling.make_room(edition.name, edition.digest, edition.size_bytes, evicts=engine is None)
            bundle = self._ahead.pop(edition.digest, None)
            if bundle is None:
                bundle = await asyncio.to_thread(self._read, edition)
            supervisor = Supervisor(edition.version, bundle, self._crew, self._changed, engine=engine)
            await supervisor.start()
            if self.ceiling is not None:
                try:
                    await self.ceiling.check(supervisor)
                except BaseException:
                    await supervisor.stop(drain_s=0)
                    raise
        self._generation += 1
        supervisor.generation = self._generation
        return supervisor

    def _fail(self, line: Line, edition: Edition, error: Exception, *, is_new: bool) -> None:
        is_told = isinstance(error, FerrymanError)
        reason = why(error, edition.path)
        line.waking.discard(edition.version)
        may_pass = isinstance(error, NotReady) and not isinstance(error, WrongAnswers)
        line.failures[edition.version] = Failure(edition, reason, may_pass)
        trace = None if is_told else error
        _log.error("model '%s' version %s %s", edition.name, edition.version, reason, exc_info=trace)
        if not is_new:
            return
        self._crew.plane.refuse(edition.name, edition.version, reason=reason)
        was = line.evicted.pop(edition.version, None)
        if may_pass and was is not None:  # whoever waited was told; the next one may find room
            del line.failures[edition.version]
            self._crew.plane.put(was)
            self._leave_out(line, was)

    def _leave_out(self, line: Line, served: Served) -> None:
        """Have the next request for a version bring it back."""
        line.evicted[served.version] = served
        self._crew.plane.evict(served.name, served.version)

    def _changed(self, supervisor: Supervisor, reason: str) -> None:
        """Know that a version lost its last worker for some time, or has one again."""
        line = self._lines[supervisor.name]
        if line.running.get(supervisor.version) is not supervisor:
            return
        if reason:
            _log.error("model '%s' version %s is not ready: %s", supervisor.name, supervisor.version, reason)
            self._crew.plane.refuse(supervisor.name, supervisor.version, reason=reason)
            supervisor.served.lane.abandon(NotReady(f"model '{supervisor.name}' {reason}", hint="try again later"))
            if supervisor.engine is not None:
                self.devices.lost(supervisor, reason)
            self._on_trouble(supervisor)
        else:
            line.failures.pop(supervisor.version, None)
            _log.info("model '%s' version %s is ready again", supervisor.name, supervisor.version)
            supervisor.enter()

    def _residents(self) -> list[Supervisor]:
        return [supervisor for line in self._lines.values() for supervisor in line.running.values()]

    def _may_leave(self, supervisor: Supervisor) -> bool:
        line = self._lines[supervisor.name]  # two versions at once: a rollout
        is_it = list(line.running.values()) == [supervisor]
        return is_it and not line.loads and not supervisor.trouble

    async def _evict(self, supervisor: Supervisor) -> None:
        line = self._lines[supervisor.name]
        line.running.pop(supervisor.version, None)
        self._leave_out(line, supervisor.served)
        await self.stop(supervisor)

    def _read(self, edition: Edition) -> Bundle:
        """Read a bundle in full and see that this machine has what it needs; blocks."""
        if edition.problem:
            raise BundleError(edition.problem)
        bundle = load_bundle(edition.path)
        if bundle.manifest.digest != edition.digest:
            raise BundleError(f"{edition.path} was replaced while it was read", hint="load it again")
        self._crew.settings.policy.check(bundle)
        runtime_for(bundle.manifest.format, serves=True).require()
        find("tasks", bundle.deployment.task.kind).require()
        if not bundle.proof.holds:
            message = f"bundle {bundle.manifest.name} does not keep its contract: {bundle.proof.verdict}"
            if not self._crew.settings.allow_broken:
                raise ContractBroken(message, hint="--allow-broken serves it all the same")
            _log.warning("%s", message)
        return bundle
