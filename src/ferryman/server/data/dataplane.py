"""Find the model that a request means and send it there: no transport here, and none of a transport's words."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf

from ferryman.core.errors import DeadlineExceeded, FerrymanError, NotFound, NotReady, Overloaded
from ferryman.server.data.ask import Ask, Gone, Priority, Reply
from ferryman.server.data.models import Served
from ferryman.server.data.split import side

_MOST_PARKED = 1024

Observer = Callable[[Ask, str, str, Reply | None, FerrymanError | None, float], None]
"""Hear of one answered ask: who was asked (name, version), how it ended, and the seconds it took."""

Heard = Callable[[Ask, Reply, Reply | FerrymanError], None]
"""Take the answer that a caller got and what the shadow made of the same ask."""


@dataclass(frozen=True, slots=True)
class Canary:
    """Send a share of the requests, 0 to 1, to another version; one caller stays on one side."""

    version: str
    weight: float
    salt: str = ""


@dataclass(frozen=True, slots=True)
class Shadow:
    """Ask another version the same, for a share of the requests, and tell `heard` of both; callers see only one."""

    version: str
    share: float
    heard: Heard


@dataclass(slots=True)
class _Slot:
    served: Served | None
    reason: str
    was: Served | None = None  # before it was evicted


@dataclass(slots=True)
class _Route:
    """Hold one model's versions and who of them answers requests that name none."""

    slots: dict[str, _Slot] = field(default_factory=dict)
    active: str | None = None
    canary: Canary | None = None
    shadow: Shadow | None = None


class Dataplane:
    """Hold what a server serves and route asks to it; use from one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_draining = False
        self.observers: list[Observer] = []
        self.on_missing: Callable[[str], bool] = lambda name: False
        self._loop = loop
        self._routes: dict[str, _Route] = {}
        self._parked: dict[str, list[Ask]] = {}

    def announce(self, name: str, version: str, reason: str = "is still loading") -> None:
        """Make a version known that doesn't answer yet; a model's first is its active one."""
        route = self._routes.setdefault(name, _Route())
        route.slots[version] = _Slot(None, reason)
        route.active = route.active or version

    def put(self, served: Served) -> None:
        """Begin to answer requests that name this version, and, where it is the active one, those that name none."""
        route = self._routes.setdefault(served.name, _Route())
        route.slots[served.version] = _Slot(served, "")
        route.active = route.active or served.version
        self._unpark(served.name)

    def activate(self, name: str, version: str) -> None:
        """Answer requests that name no version with this one, from the next request on."""
        self._slot(name, version)
        self._routes[name].active = version
        self._unpark(name)

    def refuse(self, name: str, version: str, *, reason: str) -> None:
        """Say why a version doesn't answer."""
        self._routes.setdefault(name, _Route()).slots[version] = _Slot(None, reason)
        route = self._routes[name]
        route.active = route.active or version
        self._fail_parked(name, NotReady(f"model '{name}' {reason}", hint="try again later"), version)

    def evict(self, name: str, version: str) -> None:
        """Stop answering with a version until somebody asks for it: then `on_missing` is called, and the ask waits."""
        reason = "was evicted to save memory; the next request loads it"
        slot = self._slot(name, version)
        self._routes[name].slots[version] = _Slot(None, reason, was=slot.served or slot.was)

    def remove(self, name: str, version: str) -> None:
        """Forget a version; the model goes with its last one."""
        route = self._routes.get(name)
        if route is None or route.slots.pop(version, None) is None:
            return
        if not route.slots:
            del self._routes[name]
            self._fail_parked(name, NotFound(f"model '{name}' was unloaded"))
        elif route.active == version:
            loaded = [known for known, slot in route.slots.items() if slot.served is not None]
            route.active = loaded[-1] if loaded else next(reversed(route.slots))

    def active(self, name: str) -> str | None:
        """Give the version that answers requests which name none."""
        route = self._routes.get(name)
        return route.active if route else None

    def set_canary(self, name: str, canary: Canary | None) -> None:
        """Send a share of what names no version to another one, or no more."""
        self._routes[name].canary = canary

    def set_shadow(self, name: str, shadow: Shadow | None) -> None:
        """Ask another version, too, or no more."""
        self._routes[name].shadow = shadow

    def find(self, name: str, version: str | None = None) -> Served:
        """Give a loaded version; raises NotFound, or NotReady with the reason."""
        slot = self._slot(name, version)
        if slot.served is None:
            raise NotReady(f"model '{name}' {slot.reason}", hint="try again later")
        return slot.served

    def known(self, name: str, version: str | None = None) -> Served:
        """Give a version as `find` does, and an evicted one as it was: enough to read a request for it."""
        slot = self._slot(name, version)
        if slot.served is None and slot.was is not None:
            return slot.was
        return self.find(name, version)

    def is_asleep(self, name: str) -> bool:
        """Tell whether a model was evicted, and comes back when it is asked."""
        route = self._routes.get(name)
        slot = route.slots.get(route.active or "") if route else None
        return slot is not None and slot.was is not None

    def is_split(self, name: str) -> bool:
        """Tell whether it matters who asks: a canary takes a share of the callers."""
        route = self._routes.get(name)
        return route is not None and route.canary is not None

    def has(self, name: str) -> bool:
        """Tell whether a model of this name is known, ready or not."""
        return name in self._routes

    def models(self) -> list[Served]:
        """Give every loaded version."""
        return [slot.served for route in self._routes.values() for slot in route.slots.values() if slot.served]

    def versions(self, name: str) -> list[str]:
        """Give the versions of a model, loaded or not."""
        route = self._routes.get(name)
        return list(route.slots) if route else []

    def index(self) -> list[dict[str, str]]:
        """List every version of every model with its state, READY or UNAVAILABLE, and the reason."""
        return [
            {
                "name": name,
                "version": version,
                "state": "READY" if slot.served else "UNAVAILABLE",
                "reason": slot.reason,
            }
            for name, route in self._routes.items()
            for version, slot in route.slots.items()
        ]

    def why_not_ready(self) -> str:
        """Give the reason why this server should get no requests, or nothing."""
        if self.is_draining:
            return "the server is stopping"
        reasons = []
        for name, route in self._routes.items():
            slot = route.slots.get(route.active or "")
            if slot is not None and slot.served is None and slot.was is None:
                reasons.append(f"model '{name}' {slot.reason}")
        return "; ".join(reasons)

    def submit(self, ask: Ask) -> None:
        """Send an ask on its way; every error reaches it through `fail`."""
        try:
            served = self._choose(ask)
            if served is not None:
                self._send(ask, served)
        except FerrymanError as error:
            ask.fail(error)

    def abandon(self) -> None:
        """Tell all who still wait for an answer that it will not come."""
        error = NotReady("the server stopped before the answer was there", hint="ask another one")
        for served in self.models():
            served.lane.abandon(error)
        for name in list(self._parked):
            self._fail_parked(name, error)

    def _choose(self, ask: Ask) -> Served | None:
        route = self._routes.get(ask.model)
        if route is None:
            raise self._unknown(ask.model)
        if ask.version is None:
            canary = route.canary
            if canary is not None:
                point = side(ask.sticky, canary.salt) if ask.sticky else random.random()  # noqa: S311 - no secret
                slot = route.slots.get(canary.version)
                if point < canary.weight and slot is not None and slot.served is not None:
                    return slot.served
            slot = route.slots[route.active or ""]
        else:
            slot = self._slot(ask.model, ask.version)
        if slot.served is None:
            if slot.was is not None and self.on_missing(ask.model):
                self._park(ask)
                return None
            raise NotReady(f"model '{ask.model}' {slot.reason}", hint="try again later")
        return slot.served

    def _send(self, ask: Ask, served: Served) -> None:
        if ask.tensors is not None:
            ask.rows, ask.shape = served.plan.check(ask.tensors)
            if ask.outputs is not None:
                served.plan.check_outputs(ask.outputs)
        done = ask.done
        name, version, observers = served.name, served.version, self.observers

        def observed(reply: Reply | None, error: FerrymanError | None) -> None:
            if reply is not None:
                reply.model, reply.version = name, version
            done(reply, error)
            tell(reply, error)

        def tell(reply: Reply | None, error: FerrymanError | None) -> None:
            seconds = time.monotonic() - ask.arrived_s
            for observe in observers:
                observe(ask, name, version, reply, error, seconds)

        ask.done = observed
        ask.on_gone = lambda: tell(None, Gone("the client left"))
        ask.version_asked = version
        shadow = self._routes[name].shadow
        if shadow is not None and ask.version is None and version != shadow.version and random.random() < shadow.share:  # noqa: S311 - no secret
            self._cast_shadow(ask, name, shadow)
        served.lane.submit(ask)

    def _cast_shadow(self, ask: Ask, name: str, shadow: Shadow) -> None:
        """Ask the shadow the same, and tell of both answers once both are there."""
        slot = self._routes[name].slots.get(shadow.version)
        if slot is None or slot.served is None:
            return
        answers: list[Reply | None] = [None]
        echoes: list[Reply | FerrymanError] = []
        done = ask.done

        def tell() -> None:
            if answers[0] is not None and echoes:
                shadow.heard(ask, answers[0], echoes[0])

        def answered(reply: Reply | None, error: FerrymanError | None) -> None:
            done(reply, error)
            answers[0] = reply
            tell()

        def echoed(reply: Reply | None, error: FerrymanError | None) -> None:
            echoed_as = reply if reply is not None else error
            if echoed_as is not None:
                echoes.append(echoed_as)
                tell()

        ask.done = answered
        slot.served.lane.submit(replace(ask, version=shadow.version, priority=Priority.LOW, done=echoed))

    def _park(self, ask: Ask) -> None:
        """Have an ask wait until its model is back, for as long as its deadline allows."""
        parked = self._parked.setdefault(ask.model, [])
        if len(parked) >= _MOST_PARKED:
            raise Overloaded(f"{len(parked)} requests wait for model '{ask.model}' already", hint="try again later")
        parked.append(ask)
        if ask.deadline_s < inf:
            self._loop.call_at(ask.deadline_s, ask.fail, DeadlineExceeded("the model was not back in time"))

    def _unpark(self, name: str) -> None:
        for ask in self._parked.pop(name, ()):
            self.submit(ask)

    def _fail_parked(self, name: str, error: FerrymanError, version: str | None = None) -> None:
        """Fail the asks that wait for a model, or for one of its versions."""
        active = self.active(name)
        for ask in self._parked.pop(name, ()):
            if version is None or version == (ask.version or active):
                ask.fail(error)
            else:
                self._parked.setdefault(name, []).append(ask)

    def _slot(self, name: str, version: str | None) -> _Slot:
        route = self._routes.get(name)
        if route is None:
            raise self._unknown(name)
        wanted = version if version is not None else route.active or ""
        slot = route.slots.get(wanted)
        if slot is None:
            raise NotFound(f"model '{name}' has no version '{wanted}'", hint=f"it has {', '.join(route.slots)}")
        return slot

    def _unknown(self, name: str) -> NotFound:
        return NotFound(f"no model is called '{name}'", hint=f"this server has {', '.join(self._routes) or 'none'}")
