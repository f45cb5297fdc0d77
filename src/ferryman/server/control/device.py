"""Have an engine of this device answer, once it is built and gives the golden answers right."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace

from ferryman.core.engine import AUTO, OFF, choose_device_runtime, find_device_runtime
from ferryman.core.errors import FerrymanError, MissingExtra, NotReady, WrongAnswers
from ferryman.server.control.crew import Crew
from ferryman.server.control.line import Line
from ferryman.server.control.shelf import Edition
from ferryman.server.control.supervisor import Supervisor, why
from ferryman.server.data.worker.order import EngineOrder

_log = logging.getLogger("ferryman.server")
BUILDING, SERVING, REFUSED, UNAVAILABLE = "building", "serving", "refused", "unavailable"

Start = Callable[[Edition, EngineOrder], Awaitable[Supervisor]]
Stop = Callable[[Supervisor], Coroutine[None, None, None]]


@dataclass(frozen=True, slots=True)
class Standing:
    """Say how far a version's engine has come, and why no further."""

    engine: str
    state: str
    reason: str = ""

    @property
    def words(self) -> str:
        """Give it for people."""
        return f"{self.engine}: {self.state}{f': {self.reason}' if self.reason else ''}"


class Devices:
    """Build the engine of each version that serves, one at a time, and put it in the place of what serves.

    A builder is a worker of its own at low priority: what it does to itself reaches nobody. An engine that can't be
    built, or whose golden answers are wrong, never serves; one that is lost later is not tried again for that content.
    """

    def __init__(self, crew: Crew, start: Start, stop: Stop) -> None:
        self._crew = crew
        self._start = start
        self._stop = stop
        self._turn = asyncio.Semaphore(1)
        self._tasks: dict[Supervisor, asyncio.Task[None]] = {}  # by whose place an engine is to take
        self._standings: dict[tuple[str, str], Standing] = {}
        self._lost: dict[str, str] = {}  # why, by the bundle's digest

    def follow(self, line: Line, edition: Edition) -> None:
        """Begin to build the engine of what serves now, where one is asked for."""
        old = line.running[edition.version]
        name = self._crew.settings.device_engine
        try:
            plugin = choose_device_runtime(name, old.bundle.manifest.format)
            if plugin is None:
                return
            name = plugin.name
            if not old.bundle.golden:
                raise NotReady("the bundle has no golden samples, which would show that it answers right")
            if old.bundle.manifest.digest in self._lost:
                raise NotReady(self._lost[old.bundle.manifest.digest])
        except FerrymanError as error:
            self._refuse(old, name, error)
            return
        settings = self._crew.settings
        engine = EngineOrder(name, settings.engines, settings.engines_mb)
        task = asyncio.ensure_future(self._take_over(line, edition, old, engine))
        self._tasks[old] = task
        task.add_done_callback(lambda _: self._tasks.pop(old))

    def forget(self, supervisor: Supervisor) -> None:
        """Build nothing more for what serves no more."""
        task = self._tasks.get(supervisor)
        if task is not None and task is not asyncio.current_task():  # else its engine serves
            task.cancel()

    def lost(self, supervisor: Supervisor, reason: str) -> None:
        """Know of an engine that answered, and can't any more: the bundle's own one comes back."""
        self._lost[supervisor.bundle.manifest.digest] = f"it was lost: it {reason}"

    def standings(self) -> Mapping[tuple[str, ...], float]:
        """Give 1 for each engine that serves and 0 for one that doesn't, by model, version, engine and state."""
        return {
            (*key, standing.engine, standing.state): float(standing.state == SERVING)
            for key, standing in self._standings.items()
            if key[1] in self._crew.plane.versions(key[0])
        }

    async def close(self) -> None:
        """Build no more."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take_over(self, line: Line, edition: Edition, old: Supervisor, engine: EngineOrder) -> None:
        async with self._turn:
            building = Standing(engine.name, BUILDING)
            self._stand(old, building)
            try:
                await self._build(old, engine)
                new = await self._start(edition, engine)
            except asyncio.CancelledError:  # `old` serves no more
                self._standings = {key: one for key, one in self._standings.items() if one is not building}
                old.served.device = ""
                raise
            except Exception as error:  # noqa: BLE001 - of an engine that nobody waits for: what serves goes on
                self._refuse(old, engine.name, error)
                return
        leaving = new
        try:
            async with line.lock:
                if new.trouble:  # in the moment since it answered its golden samples
                    self._refuse(old, engine.name, NotReady(new.trouble))
                else:
                    line.running[edition.version], leaving = new, old
                    new.enter()
                    self._stand(new, Standing(engine.name, SERVING))
                    _log.info("model '%s' version %s: its %s engine answers", new.name, new.version, engine.name)
        finally:
            await self._stop(leaving)

    async def _build(self, old: Supervisor, engine: EngineOrder) -> None:
        """Have a worker build it, or find it, and ask it the golden samples; raises what that worker raised."""
        settings = self._crew.settings
        worker = self._crew.hire(lambda: None, lambda _: None)
        order = replace(old.order(), engine=replace(engine, builds=True))
        build_s = settings.engine_build_s
        try:
            async with asyncio.timeout(build_s):
                await worker.load(order, deadline_s=build_s + settings.load_s)
        except TimeoutError:
            raise NotReady(f"it was not built within {build_s:g} s", hint="allow more: --engine-build-s") from None
        await worker.stop(deadline_s=settings.stop_s)

    def _refuse(self, old: Supervisor, name: str, error: Exception) -> None:
        """Stay with the bundle's own engine, and say why."""
        is_quiet = self._crew.settings.device_engine == AUTO and isinstance(error, MissingExtra)
        hint = f" ({error.hint})" if isinstance(error, FerrymanError) and error.hint else ""
        reason = str(error) if isinstance(error, WrongAnswers) else why(error, old.bundle.path)
        reason = reason.removeprefix("can't be served: ") + hint
        told = reason.replace(str(self._crew.settings.engines), "the engines' folder")  # callers read it: no paths
        self._stand(old, Standing(name, UNAVAILABLE if is_quiet else REFUSED, told))
        _log.log(
            logging.INFO if is_quiet else logging.WARNING,
            "model '%s' version %s stays with its %s engine; %s: %s",
            *(old.name, old.version, old.bundle.manifest.format, name, reason),
            exc_info=None if isinstance(error, FerrymanError) else error,
        )

    def _stand(self, supervisor: Supervisor, standing: Standing) -> None:
        known = {key: one for key, one in self._standings.items() if key[1] in self._crew.plane.versions(key[0])}
        self._standings = {**known, (supervisor.name, supervisor.version): standing}
        supervisor.served.device = standing.words


def require_engine(name: str) -> None:
    """Raise ConfigError for an engine that there isn't, MissingExtra for one whose packages are not installed."""
    if name not in (AUTO, OFF):
        find_device_runtime(name).require()
