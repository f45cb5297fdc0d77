"""One rollout while it runs: who gets which requests now, and what was counted in this step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from ferryman.core.bundle import Bundle
from ferryman.core.errors import DeadlineExceeded, FerrymanError, NotFound, NotReady, Overloaded
from ferryman.server.control.compare import Comparer, Difference
from ferryman.server.control.rollout_figures import Window, is_suspect
from ferryman.server.control.rollout_judge import Verdict, judge
from ferryman.server.control.rollout_record import Phase, Record
from ferryman.server.data.ask import Ask, Reply
from ferryman.server.data.dataplane import Canary, Dataplane, Shadow


@dataclass(frozen=True, slots=True)
class Health:
    """Say how a loaded version's workers do; `restarts` counts those lost for whatever reason since it was loaded."""

    restarts: int = 0
    golden_ok: bool | None = None
    last_error: str = ""


class Repository(Protocol):
    """Load and unload versions, and remember which one is active: no plug point, but what rollouts use of it."""

    async def look_for(self, name: str, version: str) -> None:
        """See that a version is there to be loaded; raises NotFound with those that are."""

    async def load(self, name: str, version: str, *, activate: bool) -> None:
        """Load a version until it answers; raises FerrymanError with the reason where it doesn't."""

    async def unload(self, name: str, version: str) -> None:
        """Finish what is asked of a version, and end its workers."""

    async def activate(self, name: str, version: str) -> None:
        """Answer with a loaded version what names none, now and after a restart; raises FerrymanError."""

    def health(self, name: str, version: str) -> Health | None:
        """Give a version's health; None where it isn't loaded."""


class Comparing(Protocol):
    """Compare answers beside the hot path."""

    def hear(self, ask: Ask, reply: Reply, echo: Reply | FerrymanError, /) -> None:
        """Take both answers to one request; never blocks."""

    def close(self) -> None:
        """Compare no more."""


Clock = Callable[[], float]
Told = Callable[[Difference | FerrymanError | None], None]
OpenComparer = Callable[[Bundle, dict[str, float] | None, Told], Comparing]


def open_comparer(bundle: Bundle, asked: dict[str, float] | None, told: Told) -> Comparing:
    """Compare by the bundle's task in a thread."""
    return Comparer(bundle, asked, told)


@dataclass(frozen=True, slots=True)
class Tools:
    """Hold what rollouts work with; `clock` gives seconds that only grow, `wall` the time of day."""

    plane: Dataplane
    repository: Repository
    clock: Clock
    wall: Clock
    open_comparer: OpenComparer = open_comparer


class Run:
    """Hold one rollout's record and set the data plane to what it says; use from the loop."""

    def __init__(self, record: Record, tools: Tools) -> None:
        self.record = record
        self.window = Window(tools.clock())
        self.is_saved = False
        self.is_complained = False  # whether the log says already that it can't be saved
        self.keep_until_s = float("inf")
        self._tools = tools
        self._comparer: Comparing | None = None
        self._restarts = 0
        self._is_begun = False

    @property
    def is_judged(self) -> bool:
        """Tell whether requests (or their shadows) go to the candidate, as far as it isn't promoted."""
        return self.record.phase in ("shadow", "canary") and self._is_begun

    def told(self) -> dict[str, object]:
        """Give the record and the present step's figures, for JSON."""
        elapsed_s = round(self._tools.clock() - self.window.started_s, 1)
        return {
            **self.record.as_json(),
            "weight": self.record.weight,
            "step_s": elapsed_s,
            "figures": self.window.told(),
        }

    def note(self, kind: str, reason: str, figures: dict[str, object] | None = None) -> None:
        """Keep an event in the record, which is then to be saved."""
        self.record = self.record.with_event(self._tools.wall(), kind, reason, figures)
        self.is_saved = False

    def begin(self) -> None:
        """Prepare to compare; the candidate is loaded. Raises NotReady where it isn't like the active version."""
        record, plane = self.record, self._tools.plane
        served = plane.find(record.model, record.candidate)
        stable = plane.find(record.model, record.stable)
        if served.loaded.signature != stable.loaded.signature or served.loaded.takes != stable.loaded.takes:
            raise NotReady(
                f"version {record.candidate} of '{record.model}' takes or gives other tensors than {record.stable}",
                hint="callers of one can't be sent to the other: serve it under another name",
            )
        self._restarts = self._health().restarts
        if record.plan.shadow > 0:
            asked = record.plan.agreement
            self._comparer = self._tools.open_comparer(served.bundle, asked, self._hear)

    def enter(self, phase: Phase, step: int = 0) -> None:
        """Begin a step, with figures of its own."""
        self.record = self.record.model_copy(update={"phase": phase, "step": step})
        self.is_saved = False
        self._is_begun = True
        self.restart_window()
        self._steer()

    def restart_window(self) -> None:
        """Count from nothing."""
        self.window = Window(self._tools.clock())

    def end(self, phase: Phase) -> None:
        """Take the candidate out of the requests' way, at once, and end with this phase."""
        self.record = self.record.model_copy(update={"phase": phase, "is_paused": False})
        self.is_saved = False
        self.cut()

    def cut(self) -> None:
        """Send no request to the candidate any more; those that it has are answered."""
        if self._tools.plane.versions(self.record.model):
            self._tools.plane.set_canary(self.record.model, None)
            self._tools.plane.set_shadow(self.record.model, None)
        if self._comparer is not None:
            self._comparer.close()
            self._comparer = None

    def keep_old(self) -> None:
        """Keep the version from before loaded for a while."""
        self.record = self.record.model_copy(update={"is_old_kept": True})
        self.keep_until_s = self._tools.clock() + self.record.plan.keep_s
        self.is_saved = False

    def release_old(self) -> None:
        """Keep it no longer."""
        if self.record.is_old_kept:
            self.record = self.record.model_copy(update={"is_old_kept": False})
            self.is_saved = False

    def pause(self, is_paused: bool) -> None:
        """Stay at this step, still judged, or go on from it."""
        self.record = self.record.model_copy(update={"is_paused": is_paused})
        self.is_saved = False

    def observe(self, ask: Ask, version: str, reply: Reply | None, error: FerrymanError | None, seconds: float) -> None:
        """Count an answered request that named no version; this is on the hot path."""
        if ask.version is not None:
            return
        if reply is not None and not reply.is_finite and not is_suspect(ask, reply):
            return
        if version == self.record.candidate:
            self.window.candidate.note(reply, error, seconds)
        elif version == self.record.stable:
            self.window.active.note(reply, error, seconds)

    def verdict(self) -> Verdict:
        """Say what to do next: by what is plainly broken first, then by the figures."""
        if reason := self._broken():
            return Verdict("back", (reason,))
        stage: Literal["shadow", "canary"] = "shadow" if self.record.phase == "shadow" else "canary"
        elapsed_s = self._tools.clock() - self.window.started_s
        return judge(self.record.plan, self.window, elapsed_s, stage=stage, is_paused=self.record.is_paused)

    def _broken(self) -> str:
        try:
            self._tools.plane.find(self.record.model, self.record.candidate)
        except (NotFound, NotReady) as error:
            return str(error)
        health = self._health()
        if health.golden_ok is False:
            return f"it answers golden samples wrong: {health.last_error}"
        lost = health.restarts - self._restarts
        if lost >= self.record.plan.max_crashes:
            return f"it lost {lost} of its workers: {health.last_error}"
        return ""

    def _health(self) -> Health:
        return self._tools.repository.health(self.record.model, self.record.candidate) or Health()

    def _steer(self) -> None:
        record, plane = self.record, self._tools.plane
        salt = f"{record.model}/{record.candidate}"
        canary = Canary(record.candidate, record.weight, salt) if record.weight else None
        plane.set_canary(record.model, canary)
        shadow = None
        if self._comparer is not None:
            shadow = Shadow(record.candidate, record.plan.shadow, self._comparer.hear)
        plane.set_shadow(record.model, shadow)

    def _hear(self, outcome: Difference | FerrymanError | None) -> None:
        counted = self.window.shadow
        if isinstance(outcome, FerrymanError):
            # The active version answered this very request, so whatever the candidate says against it is its own fault.
            # But a shadow goes last: a full queue or a deadline says nothing of it.
            if not isinstance(outcome, Overloaded | DeadlineExceeded):
                counted.asked += 1
                counted.errors += 1
                counted.why[type(outcome).__name__] += 1
            return
        counted.asked += 1
        if outcome is None:
            counted.dropped += 1
            return
        counted.compared += 1
        for name, value in outcome.figures.items():
            counted.worst[name] = max(value, counted.worst.get(name, 0.0))
        if outcome.beyond:
            counted.differing += 1
            name, value = next(iter(outcome.beyond.items()))
            counted.example = f"{name} {value:.3g}"
