"""The queue of one served version, and the batches that its instances take from it.

An ask goes to an instance at once where one is free. While all are busy, asks wait, and whoever becomes free takes as
many as fit into one call of the engine: batches grow with load, and nobody waits for a batch to fill.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ferryman.core.errors import DeadlineExceeded, FerrymanError, NotReady, Overloaded
from ferryman.server.data.ask import Ask, Priority, Reply
from ferryman.server.data.job import Instance, Job
from ferryman.server.data.look import Look, Place

_SWEEP_S = 0.02
_PROBE_WAITS_S = 1.0  # a probe goes before everyone else once it has waited that long
_MOST_PASSED = 16  # asks of another kind that are looked past
_LONGEST_CALL = 256  # rows, where neither the model nor the user sets a limit


_log = logging.getLogger("ferryman.server")

OnJob = Callable[[Job, Sequence[Reply | FerrymanError]], None]
"""Hear of a finished call of the engine, before those who asked do."""

Looks = Callable[[float], Look | None]
"""Say whether a call that begins now (the loop's clock) is looked into."""


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """Bound a lane: rows in one call of the engine, and asks that may wait."""

    max_batch: int = _LONGEST_CALL
    max_waiting: int = 1024


class Lane:
    """Queue asks by priority and hand them to instances in batches; use from the server's loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: LaneLimits, name: str) -> None:
        self.limits = limits
        self.waiting = 0
        self.in_flight = 0
        self._loop = loop
        self._name = name
        self._queues: tuple[deque[Ask], ...] = tuple(deque() for _ in Priority)
        self._instances: list[Instance] = []
        self._running: dict[int, tuple[Job, Instance]] = {}
        self._probes: deque[tuple[Instance, Ask]] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self.on_job: OnJob = _ignore
        self.look: Looks = _look_at_none
        self._is_kicked = False
        self._sweeper: asyncio.TimerHandle | None = None
        self._soonest_s = float("inf")

    @property
    def is_full(self) -> bool:
        """Tell whether the next ask is refused: more wait than may, and than instances that are free now will take."""
        limits = self.limits
        if self.waiting < limits.max_waiting:
            return False
        free = sum(max(0, instance.free) for instance in self._instances)
        return self.waiting >= limits.max_waiting + free * limits.max_batch

    @property
    def is_staffed(self) -> bool:
        """Tell whether any instance is there to answer."""
        return bool(self._instances)

    def submit(self, ask: Ask) -> None:
        """Take an ask; it is answered, or failed with the reason, later."""
        if self.waiting >= self.limits.max_waiting and self.is_full:
            ask.fail(
                Overloaded(f"{self.waiting} requests wait for model '{self._name}' already", hint="try again later")
            )
            return
        self.waiting += 1
        self._idle.clear()
        self._queues[ask.priority].append(ask)
        if ask.deadline_s < self._soonest_s:
            self._watch(ask.deadline_s)
        self.kick()

    def probe(self, instance: Instance, ask: Ask) -> None:
        """Ask one instance when it has nothing better to do, or after a second at most."""
        self._probes.append((instance, ask))
        self._watch(min(ask.deadline_s, self._loop.time() + _PROBE_WAITS_S))
        self.kick()

    def add(self, instance: Instance) -> None:
        """Begin to give jobs to an instance."""
        self._instances.append(instance)
        self.kick()

    def remove(self, instance: Instance) -> None:
        """Give no more jobs to an instance, and discard what it still answers: those asks fail with NotReady."""
        if instance in self._instances:
            self._instances.remove(instance)
        error = NotReady(f"an instance of model '{self._name}' was taken out of service", hint="try again")
        for job, owner in list(self._running.values()):
            if owner is instance:
                for ask in job.asks:
                    ask.fail(error)
        for owner, ask in [entry for entry in self._probes if entry[0] is instance]:
            self._probes.remove((owner, ask))
            ask.fail(error)

    def retire(self, instance: Instance) -> None:
        """Give no more jobs to an instance, and let it finish those that it has."""
        if instance in self._instances:
            self._instances.remove(instance)

    def kick(self) -> None:
        """Hand out what waits, at the end of this turn of the loop, so that requests read together share a call."""
        if not self._is_kicked:
            self._is_kicked = True
            self._loop.call_soon(self._dispatch)

    def abandon(self, error: FerrymanError) -> None:
        """Fail everything that waits or runs."""
        for queue in self._queues:
            while queue:
                queue.popleft().fail(error)
        self.waiting = 0
        for job, _ in list(self._running.values()):
            for ask in job.asks:
                ask.fail(error)
        while self._probes:
            self._probes.popleft()[1].fail(error)
        self._note_idle()

    async def drained(self) -> None:
        """Return when nothing waits or runs."""
        await self._idle.wait()

    def _dispatch(self) -> None:
        self._is_kicked = False
        self._dispatch_probes()
        while self.waiting:
            instance = self._freest()
            if instance is None:
                break
            asks = self._next_batch()
            if asks:
                self._start(instance, asks)
        self._dispatch_probes()
        self._note_idle()

    def _dispatch_probes(self) -> None:
        late_s = self._loop.time() - _PROBE_WAITS_S
        for entry in list(self._probes):
            instance, ask = entry
            if ask.is_settled:
                self._probes.remove(entry)
            elif instance.free > 0 and (not self.waiting or ask.arrived_s <= late_s):
                self._probes.remove(entry)
                self._start(instance, [ask])

    def _freest(self) -> Instance | None:
        best = max(self._instances, key=_freedom, default=None)
        return best if best is not None and best.free > 0 else None

    def _start(self, instance: Instance, asks: Sequence[Ask]) -> None:
        job = Job(asks, self._settle, self._loop.time())
        if (look := self.look(job.started_s)) is not None and not asks[0].is_probe:
            job.look = look
            for number, ask in enumerate(asks):
                ask.note = Place(look, number)
        self._running[id(job)] = (job, instance)
        self.in_flight += len(asks)
        self._idle.clear()
        instance.run(job)

    def _settle(self, job: Job, results: Sequence[Reply | FerrymanError]) -> None:
        if self._running.pop(id(job), None) is None:
            return
        self.in_flight -= len(job.asks)
        _guarded(self.on_job, job, results)
        for ask, result in zip(job.asks, results, strict=True):
            try:
                ask.answer(result) if isinstance(result, Reply) else ask.fail(result)
            except Exception:  # noqa: BLE001 - somebody else's callback: those after it must hear, too
                _log.exception("an answer could not be given")
        if self.waiting or self._probes:
            self.kick()
        else:
            self._note_idle()

    def _next_batch(self) -> list[Ask]:
        """Take asks that can share a call: the first of the highest class decides of what kind they are."""
        now_s = time.monotonic()  # the loop's own clock has milliseconds only
        asks: list[Ask] = []
        rows = 0
        kind: object = None
        most = self.limits.max_batch
        for queue in self._queues:
            others: list[Ask] = []  # of another kind: they keep their place
            while queue and rows < most and len(others) < _MOST_PASSED:
                ask = queue.popleft()
                if self._is_over(ask, now_s):
                    continue
                if asks and (rows + ask.rows > most or _kind_of(ask) != kind):
                    others.append(ask)
                    continue
                kind = _kind_of(ask)
                asks.append(ask)
                rows += ask.rows
                self.waiting -= 1
            queue.extendleft(reversed(others))
        return asks

    def _is_over(self, ask: Ask, now_s: float) -> bool:
        """Tell that nobody waits for an ask that was just taken from its queue."""
        if ask.is_settled or ask.deadline_s <= now_s:
            self.waiting -= 1
            ask.fail(_late())  # does nothing where it is settled
            return True
        return False

    def _watch(self, until_s: float) -> None:
        """Look at the queue again when the first deadline in it has come."""
        if until_s < self._soonest_s:
            self._soonest_s = until_s
            if self._sweeper is not None:
                self._sweeper.cancel()
            self._sweeper = self._loop.call_at(until_s, self._sweep)

    def _sweep(self) -> None:
        """Fail what is too late, also what an engine holds: a caller's deadline doesn't depend on the engine."""
        now_s = self._loop.time()
        self._sweeper, self._soonest_s = None, float("inf")
        soonest_s = float("inf")
        for queue in self._queues:
            for ask in tuple(queue):  # who is told may ask again at once
                soonest_s = _fail_late(ask, now_s, soonest_s)
        for job, _ in tuple(self._running.values()):
            for ask in job.asks:
                soonest_s = _fail_late(ask, now_s, soonest_s)
        for _, ask in tuple(self._probes):
            soonest_s = min(_fail_late(ask, now_s, soonest_s), now_s + _PROBE_WAITS_S)
        self._drop_settled()
        if soonest_s < float("inf"):
            self._watch(max(soonest_s, now_s + _SWEEP_S))
        self.kick()

    def _drop_settled(self) -> None:
        for queue in self._queues:
            if any(ask.is_settled for ask in queue):
                live = [ask for ask in queue if not ask.is_settled]
                self.waiting -= len(queue) - len(live)
                queue.clear()
                queue.extend(live)

    def _note_idle(self) -> None:
        if self.waiting or self._running or self._probes:
            self._idle.clear()
        else:
            self._idle.set()


def _guarded(tell: Callable[..., None], *told: object) -> None:
    """Tell one, whatever happens to the telling: those after it must hear, too."""
    try:
        tell(*told)
    except Exception:  # noqa: BLE001 - somebody else's callback
        _log.exception("an answer could not be given")


def _ignore(job: Job, results: Sequence[Reply | FerrymanError]) -> None:
    """Hear nothing."""


def _look_at_none(now_s: float) -> Look | None:
    return None


def _freedom(instance: Instance) -> int:
    return instance.free


def _kind_of(ask: Ask) -> object:
    """Give what two asks must have in common to share a call of the engine."""
    return ask.shape if ask.items is None else "items"


def _fail_late(ask: Ask, now_s: float, soonest_s: float) -> float:
    if not ask.is_settled and ask.deadline_s <= now_s:
        _guarded(ask.fail, _late())
    return soonest_s if ask.is_settled else min(soonest_s, ask.deadline_s)


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the answer was not there in time", hint="allow more time, or send less at once")
