"""Keep the workers of one served version alive, honest and small."""

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ferryman.bundle.manifest import read_manifest
from ferryman.core.bundle import Bundle, Choice
from ferryman.core.errors import BundleError, FerrymanError, NotReady, WrongAnswers
from ferryman.core.runtime import available_cores
from ferryman.server.control.crew import Crew, Worker
from ferryman.server.control.forever import forever
from ferryman.server.control.probe import Probe
from ferryman.server.control.seat import Seat, spread
from ferryman.server.data.job import Loaded
from ferryman.server.data.models import Served
from ferryman.server.data.signals.served import Live
from ferryman.server.data.worker.order import EngineOrder, LoadOrder
from ferryman.server.data.worker.zygote import ORPHANED

_log = logging.getLogger("ferryman.server")
_MB = 1024 * 1024
_GROWTH_BYTES = 256 * _MB
_WRONG_STARTS = 2  # starts that answer golden samples wrong, before the version is given up


@dataclass(frozen=True, slots=True)
class Hands:
    """Describe one worker for the status page."""

    pid: int
    rss_bytes: int
    job_s: float


class Supervisor:
    """Own the workers of one version of a model.

    `on_change` hears the reason when no worker can answer any more, and "" when one can again. Where an `engine` of
    this device answers, one start that fails is enough to give up: the bundle's own engine takes its place.
    """

    def __init__(
        self,
        version: str,
        bundle: Bundle,
        crew: Crew,
        on_change: Callable[["Supervisor", str], None],
        *,
        engine: EngineOrder | None = None,
    ) -> None:
        self.name = bundle.manifest.name
        self.version = version
        self.bundle = bundle
        self.engine = engine
        self.generation = 0
        self.restarts = 0
        self.probes = 0  # golden samples that workers were asked while they served
        self.last_error = ""
        self.trouble = ""  # why no worker answers, while that is so
        self.is_hopeless = False  # its files or its answers are wrong: another version should serve
        self.golden_ok: bool | None = None
        self.last_used_s = asyncio.get_running_loop().time()
        self._crew = crew
        self._on_change = on_change
        self._metrics = crew.metrics.figures(self.name, version)
        self._live = Live(bundle.manifest.digest)
        tuned = tuned_for_here(bundle)
        self._instances = crew.settings.instances or (tuned.instances if tuned else 1)
        self._seats: list[Seat] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._losses: deque[float] = deque(maxlen=crew.settings.patience.losses)
        self._wrong_starts = 0
        self._served: Served | None = None
        self._probe: Probe | None = None

    @property
    def served(self) -> Served:
        """Give what the dataplane serves; `start` made it."""
        assert self._served is not None, "a supervisor that was not started"  # noqa: S101 - our own bug
        return self._served

    @property
    def is_idle(self) -> bool:
        """Tell whether nobody waits for an answer."""
        return self._served is None or not (self._served.lane.waiting or self._served.lane.in_flight)

    async def start(self) -> Served:
        """Start the workers and check their golden answers; raises what their load raised, and leaves none behind."""
        try:
            loaded = await self._staff()
        except WrongAnswers:
            self._set_golden(False)
            self._metrics.live = self._metrics.live or self._live  # whoever served before goes on
            await self._clear(deadline_s=0)
            raise
        except BaseException:
            await self._clear(deadline_s=0)
            raise
        lane = self._crew.open_lane(self.bundle, loaded, self._metrics)
        self._served = Served(self.name, self.version, self.bundle, loaded, lane)
        for seat in self._seats:
            seat.open(lane)
            self._tasks.append(asyncio.create_task(seat.keep()))
        self._set_golden(True)
        self._live.depth = lane
        self._live.worker_pids = lambda: [worker.pid for worker in self._workers()]
        self._tasks.append(
            asyncio.create_task(forever(self._check, "looking after workers", every_s=self._crew.settings.check_s))
        )
        if self.bundle.golden and (self._crew.settings.probe_s > 0 or self.engine is not None):
            self._probe = Probe(self.bundle, loaded, lane, self._crew.settings)
            self._tasks.append(asyncio.create_task(forever(self._ask_golden, "asking golden samples")))
        return self._served

    def enter(self) -> None:
        """Answer for the version from now on: requests come here, and the figures tell of it."""
        self._metrics.live = self._live
        self._crew.plane.put(self.served)

    async def stop(self, *, drain_s: float) -> None:
        """Finish what is asked, at most for `drain_s`, then end the workers; takes no more asks by then."""
        stop_s = self._crew.settings.stop_s
        if self._served is not None and not self.is_idle:
            await asyncio.sleep(0)  # what was submitted in this turn of the loop is handed out at its end
            try:
                await asyncio.wait_for(self._served.lane.drained(), drain_s)
            except TimeoutError:
                self._served.lane.abandon(NotReady(f"model '{self.name}' was stopped", hint="try again"))
                stop_s = 0.0  # nobody waits for what they still do
        await self._clear(deadline_s=stop_s)
        self._metrics.leave(self._live)

    def hands(self) -> list[Hands]:
        """Describe the workers."""
        now_s = asyncio.get_running_loop().time()
        return [Hands(worker.pid, worker.rss_bytes(), worker.oldest_job_s(now_s)) for worker in self._workers()]

    def doubt(self, word: str) -> None:
        """Have every worker answer a golden sample now; `word` is the metrics' for what looks wrong with one."""
        if self._probe is not None:
            self._probe.hurry(word)

    def order(self) -> LoadOrder:
        """Say what a worker loads."""
        settings, tuned = self._crew.settings, tuned_for_here(self.bundle)
        threads = settings.threads or (tuned.threads if tuned else min(self.bundle.threads(), available_cores()))
        most = settings.max_batch or (tuned.max_batch if tuned else 0)
        return LoadOrder(self.bundle.path, threads, self._instances, most, self.engine, self.bundle.manifest.digest)

    def check_disk(self) -> None:
        """See that what a worker has loaded is still this version; raises BundleError. Blocks."""
        if read_manifest(self.bundle.path).digest != self.bundle.manifest.digest:
            raise BundleError(f"{self.bundle.path} has other content now", hint="load the model again")

    def note_loss(self, word: str, reason: str) -> float:
        """Count a lost worker and give the seconds to wait before the next one."""
        self.restarts += 1
        self._tell(f"its worker {reason}")
        if reason == ORPHANED:  # ours to answer for, not the model's
            self._crew.metrics.restarted(self.name, "start")
            return spread(self._crew.settings.patience.first_s)
        self._crew.metrics.restarted(self.name, word)
        pause_s = self._pause()
        patience = self._crew.settings.patience
        if len(self._losses) >= patience.losses:
            self._give_up(f"keeps crashing, {patience.losses} times in {patience.within_s:.0f} s: {reason}")
        return pause_s

    def note_failure(self, error: FerrymanError) -> float:
        """Count a worker that could not be started and give the seconds to wait before the next try."""
        self._crew.metrics.restarted(self.name, "start")
        self._tell(f"no new worker could be started: {error}")
        pause_s = self._pause()
        if is_wrong := isinstance(error, WrongAnswers):
            self._wrong_starts += 1
            self._set_golden(False)
        self.is_hopeless = isinstance(error, BundleError) or (is_wrong and self._wrong_starts >= _WRONG_STARTS)
        self.is_hopeless = self.is_hopeless or self.engine is not None
        if self.is_hopeless or len(self._losses) >= self._crew.settings.patience.losses:
            self._give_up(why(error, self.bundle.path))
            return spread(self._crew.settings.patience.longest_s)
        return pause_s

    def note_exchange(self) -> None:
        """Count a worker that had grown too large, and that a new one has taken the place of."""
        self._crew.metrics.restarted(self.name, "memory")
        _log.info(
            "model '%s' version %s: a worker had grown too large; a new one took its place", self.name, self.version
        )

    def note_return(self) -> None:
        """Know that a worker answers again: it has answered every golden sample right."""
        self._wrong_starts = 0
        self.is_hopeless = False
        self._set_golden(True)
        if self.trouble:
            self.trouble = ""
            self._on_change(self, "")

    async def _staff(self) -> Loaded:
        first = self._seat()
        loaded = await first.fill()
        processes = max(self._crew.settings.processes, 1)
        if not loaded.releases_gil and self._instances > 1:  # threads would take turns: processes don't
            processes *= self._instances
            self._instances = 1
            await first.clear(deadline_s=self._crew.settings.stop_s)
            loaded = await first.fill()
        for _ in range(processes - 1):
            seat = self._seat()
            await seat.fill()
        return loaded

    def _seat(self) -> Seat:
        seat = Seat(self._crew, self)
        self._seats.append(seat)
        return seat

    async def _clear(self, *, deadline_s: float) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await asyncio.gather(*(seat.clear(deadline_s=deadline_s) for seat in self._seats), return_exceptions=True)

    def _workers(self) -> list[Worker]:
        return [seat.worker for seat in self._seats if seat.worker is not None]

    def _pause(self) -> float:
        """Give a pause that grows with each loss of the last minute."""
        patience = self._crew.settings.patience
        now_s = asyncio.get_running_loop().time()
        self._losses.append(now_s)
        while self._losses[0] < now_s - patience.within_s:
            self._losses.popleft()
        if len(self._losses) >= patience.losses:
            return spread(patience.longest_s)
        return spread(min(patience.first_s * 2 ** (len(self._losses) - 1), patience.longest_s))

    def _give_up(self, reason: str) -> None:
        """Say that nobody can answer, unless another worker still does."""
        if not self._workers() and self.trouble != reason:
            self.trouble = reason
            self._on_change(self, reason)

    def _tell(self, what: str) -> None:
        self.last_error = what
        _log.warning("model '%s' version %s: %s", self.name, self.version, what)

    def _set_golden(self, is_ok: bool) -> None:
        if self.bundle.golden:
            self.golden_ok = self._live.golden_ok = is_ok

    async def _check(self) -> None:
        """Look for workers that hang or hold too much memory."""
        hang_s = self._crew.settings.hang_s
        now_s = asyncio.get_running_loop().time()
        for seat in self._seats:
            worker = seat.worker
            if worker is None:
                continue
            job_s = worker.oldest_job_s(now_s)
            if hang_s and job_s > hang_s:
                seat.eject(worker, "hang", f"hung for {job_s:.1f} s")
            elif reason := self._why_too_big(seat, worker.private_bytes()):
                seat.exchange(reason)

    def _why_too_big(self, seat: Seat, held_bytes: int) -> str:
        limit = self._crew.settings.max_worker_mb * _MB
        if limit and held_bytes > limit:
            return f"holds {held_bytes // _MB} MB, over its limit of {limit // _MB}"
        if held_bytes > 2 * seat.bytes_after_load + _GROWTH_BYTES:
            return f"has grown from {seat.bytes_after_load // _MB} to {held_bytes // _MB} MB"
        return ""

    async def _ask_golden(self) -> None:
        """Ask every worker the golden sample whose turn it is."""
        assert self._probe is not None  # noqa: S101 - our own bug
        why = await self._probe.pause()
        for seat in list(self._seats):
            worker = seat.worker
            if worker is None:
                continue
            wrong = await self._probe.ask(worker)
            self.probes += 1
            if wrong and worker is seat.worker:
                self._set_golden(False)
                seat.eject(worker, why, f"answered wrong: {wrong}")


def why(error: Exception, path: Path) -> str:
    """Say in words that follow the model's name why it doesn't serve; health tells it to everyone: no paths of ours."""
    if isinstance(error, WrongAnswers):
        return str(error)
    words = str(error) if isinstance(error, FerrymanError) else f"{type(error).__name__}: {error}"
    for ours in {str(path), str(path.absolute()), str(path.resolve())}:
        inside, itself = rf"(?<![\w./-]){re.escape(ours)}/", rf"(?<![\w./-]){re.escape(ours)}(?![\w./-])"
        words = re.sub(itself, "its bundle", re.sub(inside, "", words))
    return f"can't be served: {words}"


def tuned_for_here(bundle: Bundle) -> Choice | None:
    """Give the choice of `ferryman tune`, where it was made with as many cores as there are here."""
    tuning = bundle.tuning
    return tuning.choice if tuning is not None and tuning.cores == available_cores() else None
