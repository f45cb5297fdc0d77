"""One worker's place in a served version: filled again whenever it is empty."""

import asyncio
import logging
import random
from dataclasses import dataclass
from typing import Protocol

from ferryman.core.errors import FerrymanError, NotReady
from ferryman.server.control.crew import Crew, Worker
from ferryman.server.control.forever import forever
from ferryman.server.data.job import Loaded
from ferryman.server.data.lane import Lane
from ferryman.server.data.worker.order import LoadOrder

_log = logging.getLogger("ferryman.server")
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Departure:
    """Say why a worker left its seat; `word` is one of the metrics' reasons for a restart."""

    worker: Worker
    word: str
    reason: str


class Owner(Protocol):
    """Be the supervisor, as its seats see it."""

    def order(self) -> LoadOrder:
        """Say what a worker loads."""

    def check_disk(self) -> None:
        """See that what a worker has loaded is still this version; raises BundleError. Blocks."""

    def note_loss(self, word: str, reason: str) -> float:
        """Know of a lost worker; gives the seconds to wait before the next one."""

    def note_failure(self, error: FerrymanError) -> float:
        """Know of a worker that could not be started; gives the seconds to wait before the next try."""

    def note_exchange(self) -> None:
        """Count a worker that a new one has taken the place of."""

    def note_return(self) -> None:
        """Know that a seat is filled again."""


class Seat:
    """Hold one worker at a time. `fill` takes the first, `keep` replaces it for as long as it runs."""

    def __init__(self, crew: Crew, owner: Owner) -> None:
        self.worker: Worker | None = None
        self.bytes_after_load = 0
        self.is_exchanging = False
        self._crew = crew
        self._owner = owner
        self._lane: Lane | None = None
        self._departures: asyncio.Queue[Departure] = asyncio.Queue()

    async def fill(self) -> Loaded:
        """Start a worker and load the model; it gets no job yet. Raises what the load raised."""
        worker, loaded = await self._hire()
        self._sit(worker)
        return loaded

    def open(self, lane: Lane) -> None:
        """Begin to give jobs to the worker that sits here, and to those that will."""
        self._lane = lane
        self._enter()

    async def keep(self) -> None:
        """Fill the seat whenever its worker leaves; never returns."""
        await forever(self._follow, "replacing a worker")

    def eject(self, worker: Worker, word: str, reason: str) -> None:
        """Take a worker out at once: what it still answers is discarded, and a new one comes."""
        if worker is self.worker:
            self._leave(worker)
            worker.kill()
            self._departures.put_nowait(Departure(worker, word, reason))

    def exchange(self, reason: str) -> None:
        """Have a new worker take this one's place without a gap."""
        if self.worker is not None and not self.is_exchanging:
            self.is_exchanging = True
            self._departures.put_nowait(Departure(self.worker, "memory", reason))

    async def clear(self, *, deadline_s: float) -> None:
        """End the worker; `keep` no longer runs."""
        if self.worker is not None:
            if self._lane is not None:
                self._lane.retire(self.worker)
            await self.worker.stop(deadline_s=deadline_s)
            self.worker = None

    async def _follow(self) -> None:
        departure = await self._departures.get()
        try:
            if departure.word == "memory":
                if departure.worker is self.worker:
                    await self._replace(departure.worker)
            elif self.worker is None:
                await asyncio.sleep(self._owner.note_loss(departure.word, departure.reason))
                await self._refill()
        except Exception:
            self._departures.put_nowait(departure)  # no seat stays empty for ever
            raise

    async def _hire(self) -> tuple[Worker, Loaded]:
        worker: Worker | None = None
        losses: list[str] = []

        def free() -> None:
            if self._lane is not None:
                self._lane.kick()

        def lost(reason: str) -> None:
            losses.append(reason)
            if worker is not None and worker is self.worker:
                self._leave(worker)
                self._departures.put_nowait(Departure(worker, "crash", reason))

        worker = self._crew.hire(free, lost)
        try:
            loaded = await worker.load(self._owner.order(), deadline_s=self._crew.settings.load_s)
        except BaseException:
            worker.kill()
            raise
        try:
            await asyncio.to_thread(self._owner.check_disk)
        except BaseException:
            worker.kill()
            raise
        if losses:  # between its last word and now
            raise NotReady(f"its worker {losses[0]}")
        return worker, loaded

    def _sit(self, worker: Worker) -> None:
        self.worker = worker
        self.bytes_after_load = worker.private_bytes()

    def _enter(self) -> None:
        if self.worker is not None and self._lane is not None:
            self._lane.add(self.worker)

    def _leave(self, worker: Worker) -> None:
        self.worker = None
        if self._lane is not None:
            self._lane.remove(worker)

    async def _refill(self) -> None:
        while True:
            try:
                await self.fill()
            except Exception as error:  # noqa: BLE001 - files or memory ran out, say: they may be there again later
                await asyncio.sleep(self._owner.note_failure(_as_told(error)))
            else:
                self._enter()
                self._owner.note_return()
                return

    async def _replace(self, old: Worker) -> None:
        try:
            new, _ = await self._hire()
        except Exception as error:  # noqa: BLE001 - as above
            self.is_exchanging = False
            _log.warning("worker %d stays: no other could take its place: %s", old.pid, _as_told(error))
            return
        is_there = old is self.worker  # it may have died meanwhile
        self._sit(new)
        self._enter()
        self.is_exchanging = False
        self._owner.note_exchange()
        self._owner.note_return()
        if is_there and self._lane is not None:
            self._lane.retire(old)
            try:
                await _until_idle(old, self._crew.settings.drain_s)
                self._lane.remove(old)
                await old.stop(deadline_s=self._crew.settings.stop_s)
            except asyncio.CancelledError:
                old.kill()
                raise


async def _until_idle(worker: Worker, deadline_s: float) -> None:
    loop = asyncio.get_running_loop()
    until_s = loop.time() + deadline_s
    while worker.oldest_job_s(loop.time()) > 0 and loop.time() < until_s:
        await asyncio.sleep(_LOOK_S)


def _as_told(error: Exception) -> FerrymanError:
    if isinstance(error, FerrymanError):
        return error
    _log.error("a worker can't be started", exc_info=error)
    return NotReady(f"{type(error).__name__}: {error}")


def spread(seconds: float) -> float:
    """Give about this time, so that many who wait don't wake together."""
    return seconds * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
