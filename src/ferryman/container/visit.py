"""What the checks of one image share: what it is made of, what it promised, and a running container of it."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ferryman.conformance.broken import Broken
from ferryman.conformance.target import Target
from ferryman.container.asking import Asker, GoldenAsker, MadeAsker
from ferryman.container.container import SHUT, Container, NotStarted, Posture, Start, State, started
from ferryman.container.contents import Contents
from ferryman.container.engine import Engine, ImageFacts
from ferryman.container.outcome import NotChecked
from ferryman.container.settings import ImageSettings, Limits, Promises
from ferryman.core.bundle import Bundle
from ferryman.core.errors import FerrymanError

_ASK_AGAIN_S = 0.02
_LOOK_AGAIN_S = 0.5
_SHORT_S = 5.0
_SECOND_TRY_S = 15.0
_ANSWER_S = 3.0
_KILLED = 128 + 9
READY = "/v2/health/ready"


@dataclass(frozen=True, slots=True)
class Ladder:
    """Name one promise about how far a container may be shut, and the posture without it."""

    id: str
    posture: Posture


LOOSER = (
    Ladder("read-only", Posture(is_read_only=False)),
    Ladder("privileges", Posture(is_read_only=False, is_unprivileged=False)),
    Ladder("memory", Posture(is_read_only=False, is_unprivileged=False, is_limited=False)),
)
"""How a container is started where it is not ready shut: the first that helps says which promise it breaks."""


@dataclass(frozen=True, slots=True)
class Begun:
    """Hold how a start went: seconds after the process began until its first answer; why there was none, else."""

    first_answer_s: float | None
    ready_s: float | None
    answers: tuple[Any, ...] = ()
    reason: str = ""
    cannot_be_asked: bool = False

    @property
    def is_ready(self) -> bool:
        """Tell whether it said that it was, answers or not."""
        return self.ready_s is not None


@dataclass(slots=True)
class _Waiting:
    """Know how long to wait for a container: once it says that it is ready, an answer must come soon."""

    started_s: float
    deadline_s: float
    ready_s: float | None = None
    reason: str = "it says no"
    look_s: float = 0.0

    def note_ready(self) -> None:
        if self.ready_s is None:
            self.ready_s = time.time() - self.started_s
            self.deadline_s = time.monotonic() + _ANSWER_S

    def is_time_to_look(self) -> bool:
        """Tell, now and then, to look whether it still runs: asking the engine takes its time."""
        if time.monotonic() < self.look_s:
            return False
        self.look_s = time.monotonic() + _LOOK_AGAIN_S
        return True


@dataclass(slots=True)
class Visit:
    """Hold everything that checks need; `container` is the one that runs now."""

    engine: Engine
    facts: ImageFacts
    contents: Contents
    bundle: Bundle | None
    bundle_missing: str
    bundle_error: str
    promises: Promises
    limits: Limits
    settings: ImageSettings
    start: Start
    health: dict[str, Any]  # JSON
    packed_mb: float | None = None
    posture: Posture = SHUT
    asker: Asker | None = None
    model: str = ""
    container: Container | None = None
    begun: Begun | None = None
    tries: list[tuple[Posture, Begun]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def live(self) -> Container:
        """Give the running container, a new one where it has ended; raises NotChecked where none gets ready."""
        if self.begun is None or (self.begun.is_ready and not self._runs()):
            self.open()
        if self.container is None or self.begun is None or not self.begun.is_ready:
            raise NotChecked("it was never ready: see start")
        return self.container

    @property
    def questions(self) -> Asker:
        """Give what asks the running container; raises NotChecked where it answers nothing."""
        _ = self.live
        if self.asker is None:
            raise NotChecked("it was ready, and answered nothing: see start")
        return self.asker

    def _runs(self) -> bool:
        return self.container is not None and self.container.state().is_running

    def open(self) -> None:
        """Start a container and wait for its first answer; the first time less and less shut, until there is one."""
        rungs = [self.posture] if self.begun else [SHUT, *(rung.posture for rung in LOOSER)]
        for number, posture in enumerate(rungs):
            self.close()
            begun = self._start(posture, self.settings.start_s if not number else _SECOND_TRY_S)
            self.tries.append((posture, begun))
            if begun.is_ready:
                self.posture = posture
                break
        if begun.is_ready and posture != SHUT and self.container is not None:
            self.changed = self.container.changed_files()
        self.begun = self.begun or (begun if begun.is_ready else self.tries[0][1])

    def _start(self, posture: Posture, within_s: float) -> Begun:
        try:
            self.container = self._open.enter_context(started(self.engine, self.start, posture))
        except NotStarted as error:
            return Begun(None, None, (), str(error))
        return self._begin(self.container, within_s)

    def close(self) -> None:
        """Remove the running container."""
        self._open.close()
        self.container = None

    def is_well(self, *, within_s: float = _SHORT_S) -> str:
        """Say what keeps the running container from being ready and answering right; "" where nothing does."""
        container, asker = self.container, self.asker
        assert container is not None and asker is not None  # noqa: S101 - only asked of a live one
        deadline_s = time.monotonic() + within_s
        while True:
            reason = _wrong_now(container, asker)
            if not reason or time.monotonic() > deadline_s:
                return reason
            if not (state := container.state()).is_running:
                return f"the container has ended: {_epitaph(state)}"
            time.sleep(_ASK_AGAIN_S)

    def _begin(self, container: Container, within_s: float) -> Begun:
        waiting = _Waiting(container.started_s, time.monotonic() + within_s)
        while time.monotonic() < waiting.deadline_s:
            try:
                if waiting.ready_s is not None or _is_ready(container.url):
                    waiting.note_ready()
                    answers = self._first_answers(container)
                    return Begun(time.time() - container.started_s, waiting.ready_s, tuple(answers))
            except NotChecked as error:
                return Begun(None, waiting.ready_s, (), str(error), cannot_be_asked=True)
            except (FerrymanError, Broken) as error:
                waiting.reason = str(error)
            if waiting.is_time_to_look() and not (state := container.state()).is_running:
                return Begun(None, None, (), f"it ended: {_epitaph(state)}{_said(container)}")
            time.sleep(_ASK_AGAIN_S)
        what = "it is ready, and gives no answer" if waiting.ready_s else f"it is not ready within {within_s:g} s"
        return Begun(None, waiting.ready_s, (), f"{what}: {waiting.reason}{_said(container)}")

    def _first_answers(self, container: Container) -> list[Any]:
        """Give the first answers, right or wrong: what is wrong with them the golden check says."""
        asker = self.asker or self._find_asker(container.url)
        answers = asker.ask(container.url)
        self.asker = asker
        return answers

    def _find_asker(self, url: str) -> Asker:
        known = self.settings.model or (self.bundle.manifest.name if self.bundle else "")
        self.model = known or Target(url, timeout_s=_SHORT_S).model_names()[0]
        if self.bundle is not None and self.bundle.golden:
            return GoldenAsker(self.bundle, self.model)
        return MadeAsker(self.model, self.settings.request)


def _is_ready(url: str) -> bool:
    return Target(url, timeout_s=_SHORT_S).ask("GET", READY).status == 200


def _wrong_now(container: Container, asker: Asker) -> str:
    try:
        if not _is_ready(container.url):
            return "it is not ready"
        return "; ".join(asker.wrong(asker.ask(container.url))[:3])
    except (FerrymanError, Broken) as error:
        return str(error)


def _epitaph(state: State) -> str:
    if state.is_out_of_memory:
        return "the kernel ended it, its memory was at the limit"
    killed = " (SIGKILL, as the kernel does at the memory limit)" if state.exit_code == _KILLED else ""
    return f"exit code {state.exit_code}{killed}"


def _said(container: Container) -> str:
    words = " | ".join(line.strip() for line in container.logs(3).splitlines()[-3:] if line.strip())
    return f"; its last words: {words[-400:]}" if words else ""


@contextlib.contextmanager
def visiting(visit: Visit) -> Iterator[Visit]:
    """Remove the visit's container after a block."""
    try:
        yield visit
    finally:
        visit.close()
