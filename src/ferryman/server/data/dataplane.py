"""Find the model that a request means and send it there: no transport here, and none of a transport's words."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf

from ferryman.core.errors import DeadlineExceeded, FerrymanError, NotFound, NotReady, Overloaded
from ferryman.server.data.ask import Ask, Priority, Reply
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

    def is_drawn(self) -> bool:
        """Draw whether it is asked, too."""
        return random.random() < self.share  # noqa: S311 - no secret


@dataclass(slots=True)
class _Slot:
    served: Served | None
    reason: str
    was: Served | None = None  # before it was evicted


@dataclass(slots=True)
class _Route:
    """Hold one model's versions and who of them answers requests that name none.

    `is_expected` where the server isn't ready without it: what is there from the start, and what has once answered.
    """

    slots: dict[str, _Slot] = field(default_factory=dict)
    active: str | None = None
    canary: Canary | None = None
    shadow: Shadow | None = None
    is_expected: bool = False


class Dataplane:
    """Hold what a server serves and route asks to it; use from one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_draining = False
        self.names_models = True  # to whoever names one that isn't there; some may know of certain ones only
        self.is_ready_with_any = False  # one model that answers is enough for `why_not_ready`
        self.observers: list[Observer] = []
        self.on_missing: Callable[[str], bool] = lambda name: False
        self._loop = loop
        self._routes: dict[str, _Route] = {}
        self._parked: dict[str, list[tuple[Ask, asyncio.TimerHandle | None]]] = {}

    def announce(self, name: str, version: str, *, is_expected: bool = False) -> None:
        """Make a version known that doesn't answer yet; a model's first is its active one.

        Where `is_expected` the server isn't ready until the model is.
        """
        reason = "is still loading"
        route = self._routes.setdefault(name, _Route())
        route.is_expected = route.is_expected or is_expected
        route.slots[version] = _Slot(None, reason)
        route.active = route.active or version

    def put(self, served: Served) -> None:
        """Begin to answer requests that name this version, and, where it is the active one, those that name none."""
        route = self._routes.setdefault(served.name, _Route())
        route.is_expected = True
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
        self._fail_parked(name, NotFound(f"model '{name}' was unloaded"), version)
        if not route.slots:
            del self._routes[name]
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

    def is_split(self, name: str) -> bool:
        """Tell whether it matters who asks: a canary takes a share of the callers."""
        route = self._routes.get(name)
        return route is not None and route.canary is not None

    def has(self, name: str) -> bool:
        """Tell whether a model of this name is known, ready or not."""
        return name in self._routes

    def only_model(self) -> str:
        """Give the name of the one model that is served, ready or not; raises NotFound where it isn't one."""
        if len(self._routes) == 1:
            return next(iter(self._routes))
        told = f"{len(self._routes)} models are served" if self._routes else "no model is served"
        raise NotFound(
            f"this address asks the only model of a server, and {told} here", hint="ask at /v2/models/MODEL/infer"
        )

    def models(self) -> list[Served]:
        """Give every loaded version."""
        return [slot.served for route in self._routes.values() for slot in route.slots.values() if slot.served]

    def versions(self, name: str) -> list[str]:
        """Give the versions of a model, loaded or not."""
        route = self._routes.get(name)
        return list(route.slots) if route else []

    def serving(self, name: str) -> list[str]:
        """Give the versions of a model that answer, at once or after they were loaded again."""
        route = self._routes.get(name)
        slots = route.slots.items() if route else ()
        return [version for version, slot in slots if slot.served is not None or slot.was is not None]

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

    def readiness(self) -> dict[tuple[str, ...], float]:
        """Tell for each name and version whether requests are answered (1), be it after it was brought back, or not."""
        return {
            (name, version): float(slot.was is not None or (slot.served is not None and slot.served.lane.is_staffed))
            for name, route in self._routes.items()
            for version, slot in route.slots.items()
        }

    def why_not_ready(self) -> str:
        """Give the reason why this server should get no requests, or nothing."""
        if self.is_draining:
            return "the server is stopping"
        if self.is_ready_with_any and any(self.serving(name) for name in self._routes):
            return ""
        reasons = []
        for name, route in self._routes.items():
            slot = route.slots.get(route.active or "")
            if route.is_expected and slot is not None and slot.served is None and slot.was is None:
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
        ask.version_asked, ask.on_end = served.version, self._tell
        shadow = self._routes[ask.model].shadow
        if shadow is not None and ask.version is None and shadow.version != served.version and shadow.is_drawn():
            self._cast_shadow(ask, shadow)
        served.lane.submit(ask)

    def _tell(self, ask: Ask, reply: Reply | None, error: FerrymanError | None) -> None:
        """Tell the observers how an ask ended."""
        seconds = time.monotonic() - ask.arrived_s
        for observe in self.observers:
            observe(ask, ask.model, ask.version_asked, reply, error, seconds)

    def _cast_shadow(self, ask: Ask, shadow: Shadow) -> None:
        """Ask the shadow the same, and tell of both answers once both are there."""
        slot = self._routes[ask.model].slots.get(shadow.version)
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
        echo = replace(ask, version=shadow.version, priority=Priority.LOW, done=echoed, on_end=None, trace=None)
        echo.version_asked = shadow.version
        slot.served.lane.submit(echo)

    def _park(self, ask: Ask) -> None:
        """Have an ask wait until its model is back, for as long as its deadline allows."""
        parked = self._parked.setdefault(ask.model, [])
        if len(parked) >= _MOST_PARKED:
            raise Overloaded(f"{len(parked)} requests wait for model '{ask.model}' already", hint="try again later")
        late = DeadlineExceeded("the model was not back in time")
        timer = self._loop.call_at(ask.deadline_s, ask.fail, late) if ask.deadline_s < inf else None
        parked.append((ask, timer))

    def _unpark(self, name: str) -> None:
        for ask, timer in self._parked.pop(name, ()):
            if timer is not None:
                timer.cancel()
            self.submit(ask)

    def _fail_parked(self, name: str, error: FerrymanError, version: str | None = None) -> None:
        """Fail the asks that wait for a model, or for one of its versions."""
        active = self.active(name)
        for ask, timer in self._parked.pop(name, ()):
            if version is not None and version != (ask.version or active):
                self._parked.setdefault(name, []).append((ask, timer))
                continue
            if timer is not None:
                timer.cancel()
            ask.fail(error)

    def _slot(self, name: str, version: str | None) -> _Slot:
        route = self._routes.get(name)
        if route is None:
            raise self._unknown(name)
        wanted = version if version is not None else route.active or ""
        slot = route.slots.get(wanted)
        if slot is None:
            serving = ", ".join(self.serving(name)) or "none"
            raise NotFound(f"model '{name}' does not serve a version '{wanted}'", hint=f"it serves {serving}")
        return slot

    def _unknown(self, name: str) -> NotFound:
        words = f"no model is called '{name}'" if name else "the request names no model"
        if not self.names_models:
            return NotFound(words, hint="the repository's index lists those that you may use")
        return NotFound(words, hint=f"this server has {', '.join(self._routes) or 'none'}")
