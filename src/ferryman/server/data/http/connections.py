"""All open connections of one server: what they share, and one timer that looks at each of them."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from ferryman.server.data.http.cors import Origins
from ferryman.server.data.http.head import Head, parse_head
from ferryman.server.data.http.intake import Intake
from ferryman.server.data.http.limits import Limits
from ferryman.server.data.http.refused import Refused
from ferryman.server.data.http.reply import Renderer
from ferryman.server.data.http.request import Application
from ferryman.server.data.request_ids import RequestIds

_KNOWN_HEADS = 512
_KNOWN_HEAD_BYTES = 2 * 1024


class Member(Protocol):
    """Be one open connection."""

    def sweep(self, now_s: float) -> None:
        """End what is over one of its times."""

    def close_idle(self, idle_s: float) -> None:
        """Close if nothing is in work and nothing came for so long."""

    def abort(self) -> None:
        """End at once, whatever is in work."""


class Connections:
    """Hold the open connections, and what all of them share; use from one event loop."""

    def __init__(
        self, application: Application, limits: Limits, intake: Intake, origins: Origins | None = None
    ) -> None:
        self.application = application
        self.limits = limits
        self.intake = intake
        self.origins = origins or Origins()
        self.renderer = Renderer()
        self.members: set[Member] = set()
        self.handed: set[asyncio.BaseTransport] = set()  # connections that speak HTTP/2: nobody tells when they end
        self.refused: Counter[str] = Counter()  # by kind
        self.on_refused: Callable[[Refused], None] = lambda refused: None
        self.is_draining = False
        self.ids = RequestIds()
        self._heads: dict[bytes, Head] = {}
        self._timer: asyncio.TimerHandle | None = None

    def count(self) -> int:
        """Count the open connections of all protocols."""
        self.handed.difference_update([transport for transport in self.handed if transport.is_closing()])
        return len(self.members) + len(self.handed)

    def join(self, member: Member) -> None:
        """Count a connection."""
        self.members.add(member)

    def leave(self, member: Member) -> None:
        """Count it no more."""
        self.members.discard(member)

    def refuse(self, refused: Refused) -> None:
        """Count and tell what the application never saw, or not as a whole."""
        self.refused[refused.kind] += 1
        self.on_refused(refused)

    def head(self, block: bytes) -> Head:
        """Parse a request's head, or know it: clients send the same one again and again. Raises Refusal."""
        known = self._heads.get(block)
        if known is not None:
            return known
        head = parse_head(block, self.limits)
        if len(block) <= _KNOWN_HEAD_BYTES:
            if len(self._heads) >= _KNOWN_HEADS:
                self._heads.clear()
            self._heads[block] = head
        return head

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to look at all connections every now and then."""
        if self._timer is None:
            self._sweep(loop)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close_idle(self, idle_s: float = 0.0) -> None:
        """Close those on which nothing happens, and has not for so long."""
        for member in tuple(self.members):
            member.close_idle(idle_s)

    def abort(self) -> None:
        """End all of them at once."""
        for member in tuple(self.members):
            member.abort()
        for transport in self.handed:
            transport.abort()  # type: ignore[attr-defined]  # every transport of a connection has it

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self.limits.sweep_s(), self._sweep, loop)
        self.renderer.tick()
        self.count()
        now_s = loop.time()
        for member in tuple(self.members):
            member.sweep(now_s)
