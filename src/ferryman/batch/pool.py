"""Workers that are replaced when they die, and the hunt for the row that kills them."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Self

from ferryman.batch.chunk import Chunk
from ferryman.batch.worker import Done, Opening, Order, Trouble
from ferryman.core.errors import FerrymanError

_TRIES = 2
"""A chunk whose worker died is asked again as a whole so often: whoever was killed by chance changes no answer."""
_MOST_DEATHS = 300
_START_S = 300.0
_WAKE_S = 1.0


class Died(Exception):
    """Say that a worker ended, and how."""


class Worker:
    """Be the near end of one process."""

    def __init__(self, opening: Opening, patience_s: float) -> None:
        """Start it; it is ready once `greet` says so."""
        near, far = socket.socketpair()
        command = [sys.executable, "-P", "-m", "ferryman.batch", str(far.fileno())]
        self.process = subprocess.Popen(  # noqa: S603 - our own module
            command, pass_fds=[far.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
        )
        far.close()
        self.link = Connection(near.detach())
        self.order: Order | None = None
        self.is_ready = False
        self._patience_s = patience_s
        self._since_s = time.monotonic()
        with contextlib.suppress(ConnectionError):
            self.link.send(opening)

    def greet(self) -> None:
        """Wait until it has loaded the bundle; raises FerrymanError where it can't."""
        try:
            if not self.link.poll(max(0.0, self._since_s + _START_S - time.monotonic())):
                raise Died(f"said nothing for {_START_S:g} s")
            self._checked(self.link.recv())
        except (Died, EOFError, ConnectionError) as error:
            how = str(error) if isinstance(error, Died) else self.epitaph()
            raise FerrymanError(
                f"a worker {how} while it loaded the bundle", hint="try ferryman verify BUNDLE"
            ) from None
        self.is_ready = True

    @property
    def is_late(self) -> bool:
        """Tell whether it has had its order, or has been starting, for too long."""
        patience_s = self._patience_s if self.is_ready else _START_S
        is_asked = self.order is not None or not self.is_ready
        return is_asked and time.monotonic() - self._since_s > patience_s

    def give(self, order: Order) -> None:
        """Hand an order over; a worker that is dead is noticed when its answer is read."""
        self.order, self._since_s = order, time.monotonic()
        with contextlib.suppress(ConnectionError):
            self.link.send(order)

    def take(self) -> Done:
        """Give the answer; raises Died."""
        try:
            told = self._checked(self.link.recv())
        except (EOFError, ConnectionError):
            raise Died(self.epitaph()) from None
        self.order = None
        if not isinstance(told, Done):
            raise Died("answered what was not asked")
        return told

    def epitaph(self) -> str:
        """Say how the process ended."""
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            return "closed its line"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"

    def stop(self) -> None:
        """End the process."""
        self.link.close()
        self.process.kill()
        self.process.wait()

    @staticmethod
    def _checked(told: object) -> object:
        if isinstance(told, Trouble):
            error = FerrymanError(told.text, hint=told.hint)
            error.exit_code = told.exit_code
            raise error
        return told


class Pool:
    """Keep so many workers busy with chunks; what waits is one chunk a worker."""

    def __init__(self, opening: Opening, processes: int, patience_s: float) -> None:
        self._opening, self._processes, self._patience_s = opening, processes, patience_s
        self._workers: list[Worker] = []
        self._waiting: deque[Order] = deque()
        self._tries: dict[int, int] = {}
        self._killed: dict[int, dict[int, str]] = {}
        self._hunter: Worker | None = None
        self.deaths = 0

    def __enter__(self) -> Self:
        """Start nothing yet: a worker is started with its first chunk."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all workers at once."""
        for worker in [*self._workers, *([self._hunter] if self._hunter else [])]:
            worker.stop()

    def run(self, todo: Iterator[Chunk]) -> Iterator[tuple[Chunk, Done, dict[int, str]] | None]:
        """Give each chunk with what became of it, as they end, and rows that killed a worker with how it ended.

        None is given once a second, so that whoever listens can do other things.
        """
        while True:
            self._feed(todo)
            if not self._waiting and all(worker.order is None for worker in self._workers):
                return
            busy = {worker.link: worker for worker in self._workers if worker.order or not worker.is_ready}
            for link in wait(list(busy), timeout=_WAKE_S):
                found = self._hear(busy[link])  # type: ignore[index]  # they are what was given: Connections
                if found is not None:
                    yield found
            for worker in [one for one in self._workers if one.is_late and not one.link.poll()]:
                if worker.order is None:
                    worker.greet()  # it is too late for that, and says so
                else:
                    self._bury(worker, worker.order, f"said nothing for {self._patience_s:g} s")
            yield None

    def _hear(self, worker: Worker) -> tuple[Chunk, Done, dict[int, str]] | None:
        order = worker.order
        if order is None:
            worker.greet()
            return None
        try:
            done = worker.take()
        except Died as death:
            self._bury(worker, order, str(death))
            return None
        return order.chunk, done, self._killed.pop(order.chunk.number, {})

    def _feed(self, todo: Iterator[Chunk]) -> None:
        """Hand orders to those who are free, and start workers where there are more orders than those."""
        free = [worker for worker in self._workers if worker.is_ready and worker.order is None]
        busy = sum(worker.order is not None for worker in self._workers)
        while len(self._waiting) < self._processes - busy:
            chunk = next(todo, None)
            if chunk is None:
                break
            self._waiting.append(Order(chunk))
        for worker in free:
            if self._waiting:
                worker.give(self._waiting.popleft())
        starting = sum(not worker.is_ready for worker in self._workers)
        for _ in range(min(len(self._waiting) - starting, self._processes - len(self._workers))):
            self._workers.append(Worker(self._opening, self._patience_s))

    def _bury(self, worker: Worker, order: Order, how: str) -> None:
        self._workers.remove(worker)
        worker.stop()
        self._count_death(how)
        number = order.chunk.number
        self._tries[number] = self._tries.get(number, 0) + 1
        if self._tries[number] > _TRIES:
            found = self._hunt(order)
            if not found:
                rows = f"{order.chunk.start} to {order.chunk.start + len(order.chunk.rows) - 1}"
                raise FerrymanError(
                    f"workers end on rows {rows} together, but on no one of them: each {how}",
                    hint="is it memory? --chunk N and --processes N take less",
                )
            self._killed[number] = found
            self._tries[number] = 0
            order = Order(order.chunk, order.skipped | frozenset(found))
        self._waiting.append(order)

    def _hunt(self, order: Order) -> dict[int, str]:
        """Find the rows that kill whoever is asked about them, by halves; a single one must do so twice."""
        every = [place for place in range(len(order.chunk.rows)) if place not in order.skipped]
        found: dict[int, str] = {}
        stack = [every[len(every) // 2 :], every[: len(every) // 2]]
        worker: Worker | None = None
        while stack:
            part = stack.pop()
            for _ in range(_TRIES if len(part) == 1 else 1):
                if worker is None:
                    worker = Worker(self._opening, self._patience_s)
                    self._hunter = worker
                    worker.greet()
                how = self._probe(worker, order.chunk, frozenset(range(len(order.chunk.rows))) - frozenset(part))
                if not how:
                    break
                worker = None
                if len(part) > 1:
                    stack += [part[len(part) // 2 :], part[: len(part) // 2]]
            else:
                if len(part) == 1:
                    found[part[0]] = how
        if worker is not None:
            worker.stop()
        return found

    def _probe(self, worker: Worker, chunk: Chunk, skipped: frozenset[int]) -> str:
        """Say how a worker ended on some rows; "" where it did not."""
        worker.give(Order(chunk, skipped, is_probe=True))
        try:
            if not worker.link.poll(self._patience_s):
                raise Died(f"said nothing for {self._patience_s:g} s")
            worker.take()
        except Died as death:
            worker.stop()
            self._count_death(str(death))
            return str(death)
        return ""

    def _count_death(self, how: str) -> None:
        self.deaths += 1
        if self.deaths > _MOST_DEATHS:
            raise FerrymanError(
                f"{self.deaths} workers ended, the last {how}", hint="try some rows with ferryman infer BUNDLE"
            )
