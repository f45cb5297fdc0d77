"""Load a server as its users would: arrivals that don't wait for answers, or a fixed number of patient callers.

In the open loop the schedule is fixed beforehand and each latency counts from the *scheduled* arrival, so that a server
that stalls can't hide the requests which would have come meanwhile.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ferryman.client.load.connection import Connection
from ferryman.client.load.latency import Histogram

_REFUSALS = (429, 503)


@dataclass(frozen=True, slots=True)
class Address:
    """Say where the server listens; `tls` is there where it speaks TLS."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """Say what to send and over how many connections; `requests` are whole HTTP requests, sent in turn.

    An answer that takes longer than `timeout_s` after its request was sent counts as lost.
    """

    address: Address
    requests: Sequence[bytes]
    connections: int = 64
    timeout_s: float = 10.0
    seed: int = 0


@dataclass(slots=True)
class Tally:
    """Count what became of every request: answered (200), refused (429, 503), failed (any other status) or lost.

    `latency` holds every request: those that were not answered count as infinitely slow. `late` were sent more than
    10 ms after their time because this machine, not the server, was behind: where they are many, believe nothing.
    """

    scheduled_rps: float = 0.0
    seconds: float = 0.0
    sent: int = 0
    answered: int = 0
    refused: int = 0
    failed: int = 0
    lost: int = 0
    late: int = 0
    latency: Histogram = field(default_factory=Histogram)

    @property
    def achieved_rps(self) -> float:
        """Give right answers a second."""
        return self.answered / self.seconds if self.seconds else 0.0

    def settle(self, status: int, latency_s: float) -> None:
        """Count one request's end; status 0 stands for no answer."""
        if status == 200:
            self.answered += 1
            self.latency.add(latency_s)
            return
        self.latency.add_lost()
        if status == 0:
            self.lost += 1
        elif status in _REFUSALS:
            self.refused += 1
        else:
            self.failed += 1


async def open_loop(load: Load, *, rate_rps: float, duration_s: float) -> Tally:
    """Send requests at Poisson arrivals of that rate for that long, then wait for the last answers."""
    gaps = np.random.default_rng(load.seed).exponential(1 / rate_rps, max(int(rate_rps * duration_s * 1.5) + 64, 1))
    times = np.cumsum(gaps)
    schedule: list[float] = times[times < duration_s].tolist()
    run = _OpenRun(load, schedule)
    await run.connect()
    try:
        await run.finish()
    finally:
        run.close()
    run.tally.scheduled_rps = rate_rps
    run.tally.seconds = duration_s if not run.tally.lost else max(run.elapsed_s, duration_s)
    return run.tally


async def closed_loop(load: Load, *, duration_s: float) -> Tally:
    """Let each connection ask again as soon as it was answered, for that long."""
    loop, tally = asyncio.get_running_loop(), Tally()
    end_s = loop.time() + duration_s
    await asyncio.gather(*(_caller(load, tally, place, end_s) for place in range(load.connections)))
    tally.seconds = duration_s
    return tally


async def _caller(load: Load, tally: Tally, place: int, end_s: float) -> None:
    loop = asyncio.get_running_loop()
    link: Connection | None = None
    turn = place
    try:
        while (sent_s := loop.time()) < end_s:
            if link is None or not link.is_open:
                link = await _connect(load)
            status = 0
            tally.sent += 1
            if link is not None:
                status = await link.ask(load.requests[turn % len(load.requests)], timeout_s=load.timeout_s)
            turn += load.connections
            if status or loop.time() < end_s + load.timeout_s:
                tally.settle(status, loop.time() - sent_s)
            if status != 200:
                await asyncio.sleep(0.001)  # a server that refuses at once must not make this loop a flood
    finally:
        if link is not None:
            link.close()


class _OpenRun:
    """Send a schedule over a pool of connections; what finds none free waits, and its clock runs."""

    def __init__(self, load: Load, schedule: Sequence[float]) -> None:
        self._load = load
        self._schedule = schedule
        self._loop = asyncio.get_running_loop()
        self._free: deque[Connection] = deque()
        self._links: set[Connection] = set()
        self._waiting: deque[int] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._done = self._loop.create_future()
        self._next = 0
        self._start_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.tally = Tally()

    @property
    def elapsed_s(self) -> float:
        return self._loop.time() - self._start_s

    async def connect(self) -> None:
        """Open the connections before the clock starts: what is measured is the server, not its accept queue."""
        for _ in range(self._load.connections):
            if (link := await _connect(self._load)) is not None:
                self._links.add(link)
                self._free.append(link)

    async def finish(self) -> None:
        """Send everything at its time, and wait until each request was answered or given up."""
        self._start_s = self._loop.time()
        last_s = self._schedule[-1] if self._schedule else 0.0
        self._fire()
        try:
            await asyncio.wait_for(self._done, last_s + 2 * self._load.timeout_s + 1)
        except TimeoutError:
            self._give_up()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in self._opening:
            task.cancel()
        for link in self._links:
            link.close()

    def _fire(self) -> None:
        now_s = self.elapsed_s
        while self._next < len(self._schedule) and self._schedule[self._next] <= now_s:
            self.tally.late += now_s - self._schedule[self._next] > 0.01
            self.tally.sent += 1
            self._waiting.append(self._next)
            self._next += 1
        self._pump()
        if self._next < len(self._schedule):
            self._timer = self._loop.call_at(self._start_s + self._schedule[self._next], self._fire)
        elif not self._schedule:
            self._end_if_done()

    def _pump(self) -> None:
        while self._waiting and self._free:
            link = self._free.pop()
            if not link.is_open:
                self._replace(link)
                continue
            turn = self._waiting.popleft()
            request = self._load.requests[turn % len(self._load.requests)]
            link.send(request, partial(self._settle, link, turn))
            link.give_up_at(self._loop.time() + self._load.timeout_s)

    def _settle(self, link: Connection, turn: int, status: int) -> None:
        self.tally.settle(status, self.elapsed_s - self._schedule[turn])
        if link.is_open:
            self._free.append(link)
        else:
            self._replace(link)
        self._pump()
        self._end_if_done()

    def _replace(self, link: Connection) -> None:
        self._links.discard(link)
        task = self._loop.create_task(self._reopen())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _reopen(self) -> None:
        while (link := await _connect(self._load)) is None:
            await asyncio.sleep(0.05)
        self._links.add(link)
        self._free.append(link)
        self._pump()

    def _end_if_done(self) -> None:
        if self._next == len(self._schedule) and self.tally.latency.count == self.tally.sent and not self._done.done():
            self._done.set_result(None)

    def _give_up(self) -> None:
        for _ in range(self.tally.sent - self.tally.latency.count):
            self.tally.settle(0, 0.0)


async def _connect(load: Load) -> Connection | None:
    loop, address = asyncio.get_running_loop(), load.address
    try:
        async with asyncio.timeout(load.timeout_s):
            _, link = await loop.create_connection(Connection, address.host, address.port, ssl=address.tls)
    except (OSError, TimeoutError):
        return None
    return link
