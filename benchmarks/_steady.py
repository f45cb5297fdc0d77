"""Ask a server over HTTP at a steady rate, whatever it answers, and read what each of its processes takes."""

import asyncio
import os
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_TICK_S = 0.005
_MOST_LINKS = 256
_NANOSECONDS = 1e9
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")


@dataclass(slots=True)
class Tally:
    """Count requests by status (0: the connection ended), with the seconds from when each was due to its answer."""

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    @property
    def ended(self) -> int:
        """Give how many have an answer, or none to come."""
        return sum(self.statuses.values())


class _Link(asyncio.Protocol):
    """One connection: a request at a time."""

    def __init__(self, caller: "Caller") -> None:
        self._caller = caller
        self._transport: asyncio.Transport | None = None
        self._held = b""
        self._due_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, request: bytes, due_s: float) -> None:
        assert self._transport is not None
        self._due_s = due_s
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, found, body = self._held.partition(b"\r\n\r\n")
        if not found:
            return
        at = head.lower().index(b"content-length:") + 15
        if len(body) >= int(head[at:].split(b"\r\n", 1)[0]):
            self._held = b""
            self._end(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._caller.left(self)
        self._end(0)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _end(self, status: int) -> None:
        if self._due_s is not None:
            due_s, self._due_s = self._due_s, None
            self._caller.ended(self, status, due_s)


class Caller:
    """Send requests when they are due, over as many connections as that takes, up to 256; beyond, they wait."""

    def __init__(self, host_and_port: tuple[str, int], requests: Sequence[bytes]) -> None:
        self.tally = Tally()
        self._address = host_and_port
        self._requests = requests
        self._free: deque[_Link] = deque()  # the one that is idle longest goes first: none idles until it is closed
        self._links: list[_Link] = []
        self._late: deque[float] = deque()

    async def ask(self, rate: float, seconds: float) -> None:
        """Send `rate` requests a second for so long, evenly; returns when the last is answered (or after 30 s)."""
        loop = asyncio.get_running_loop()
        began_s, count = loop.time(), 0
        while (passed_s := loop.time() - began_s) < seconds:
            while count < passed_s * rate:
                await self._send(began_s + count / rate)
                count += 1
            await asyncio.sleep(_TICK_S)
        last_s = loop.time() + 30
        while self.tally.ended < self.tally.sent and loop.time() < last_s:
            await asyncio.sleep(_TICK_S)

    def ended(self, link: _Link, status: int, due_s: float) -> None:
        """Hear of an answer."""
        self.tally.statuses[status] += 1
        self.tally.seconds.append(asyncio.get_running_loop().time() - due_s)
        if not status:
            return
        if self._late:
            link.send(self._next(), self._late.popleft())
        else:
            self._free.append(link)

    def left(self, link: _Link) -> None:
        """Hear that a connection has ended."""
        self._links.remove(link)
        if link in self._free:
            self._free.remove(link)

    def close(self) -> None:
        """End all connections."""
        for link in list(self._links):
            link.close()

    def _next(self) -> bytes:
        self.tally.sent += 1
        return self._requests[self.tally.sent % len(self._requests)]

    async def _send(self, due_s: float) -> None:
        if not self._free and len(self._links) >= _MOST_LINKS:
            self._late.append(due_s)
            return
        if self._free:
            link = self._free.popleft()
        else:
            loop = asyncio.get_running_loop()
            _, link = await loop.create_connection(lambda: _Link(self), *self._address)
            self._links.append(link)
        link.send(self._next(), due_s)


def post(path: str, body: bytes, kind: str) -> bytes:
    """Give a whole request."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@dataclass(frozen=True, slots=True)
class Taken:
    """Hold what a process has taken: CPU seconds by the scheduler's count, resident bytes, its own of these."""

    name: str
    cpu_s: float
    resident_bytes: int
    own_bytes: int


def taken(root: int) -> dict[int, Taken]:
    """Look at a process and what it started, by their ids."""
    found: dict[int, Taken] = {}
    waiting = [root]
    while waiting:
        folder = Path("/proc", str(pid := waiting.pop()))
        try:
            threads = list((folder / "task").iterdir())
            spent = sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)
            resident, shared = (int(pages) * _PAGE_BYTES for pages in (folder / "statm").read_text().split()[1:3])
            name = (folder / "comm").read_text().strip()
            waiting += [int(child) for thread in threads for child in (thread / "children").read_text().split()]
        except (OSError, IndexError):
            continue  # it ended while we looked
        found[pid] = Taken(name, spent / _NANOSECONDS, resident, resident - shared)
    return found
