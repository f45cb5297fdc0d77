"""One request on its way to a model and back: no transport here, and no engine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import inf
from typing import Any

from ferryman.core.errors import FerrymanError
from ferryman.core.signature import Array
from ferryman.core.task import Answer, Item
from ferryman.server.data.look import Place


class Priority(IntEnum):
    """Say who goes first where requests wait; within a class the older one does."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


@dataclass(frozen=True, slots=True)
class Stages:
    """Hold what one call of the engine took, in seconds, and how many requests and rows shared it."""

    queue_s: float = 0.0
    prepare_s: float = 0.0
    infer_s: float = 0.0
    finish_s: float = 0.0
    asks: int = 1
    rows: int = 1


@dataclass(slots=True, eq=False)
class Reply:
    """Hold the answer of one ask: the model's tensors, or one answer an item in the task's own words."""

    outputs: Mapping[str, Array] | None
    answers: Sequence[Answer] | None = None
    is_finite: bool = True
    stages: Stages = Stages()
    model: str = ""  # who answered: filled in on the way back
    version: str = ""


Done = Callable[[Reply | None, FerrymanError | None], None]
"""Take the answer or the error; called once for each ask, on the server's loop."""


class Gone(FerrymanError):
    """Stand for a client that left, or waits no more: observers hear of it, the client doesn't."""


@dataclass(slots=True, eq=False)
class Ask:
    """Ask a model one thing. Exactly one of `tensors` and `items` is there.

    `deadline_s` and `arrived_s` are times of the loop's clock. `sticky` keeps one caller on one side of a canary.
    """

    model: str
    version: str | None
    done: Done
    tensors: Mapping[str, Array] | None = None
    items: Sequence[Item] | None = None
    rows: int = 1
    outputs: tuple[str, ...] | None = None
    shape: Any = None  # what must be equal for two asks to share a call of the engine: hashable, the decoder's own
    deadline_s: float = inf
    arrived_s: float = 0.0
    priority: Priority = Priority.NORMAL
    sticky: str = ""
    trace: Any = None  # an open span, where this request is traced
    id: str = ""  # the caller's own name for it
    trace_id: str = ""
    transport: str = "http"
    note: Place | None = None  # where its facts go, if its call is looked into
    is_probe: bool = False
    is_settled: bool = False
    version_asked: str = ""  # the one that the dataplane chose
    on_end: "OnEnd | None" = None  # the dataplane's own

    def give_up(self) -> None:
        """Know that nobody waits for the answer any more; the ask is not sent to an engine after this."""
        if not self.is_settled:
            self.done = _nobody
            self._settle(None, Gone("the client left"))

    def answer(self, reply: Reply) -> None:
        """Give the answer, unless the ask was settled already."""
        if not self.is_settled:
            reply.model, reply.version = self.model, self.version_asked
            self._settle(reply, None)

    def fail(self, error: FerrymanError) -> None:
        """Give the error, unless the ask was settled already."""
        if not self.is_settled:
            self._settle(None, error)

    def _settle(self, reply: Reply | None, error: FerrymanError | None) -> None:
        # Who hears of an ask also holds it: let go, or only the garbage collector would free them and the reply.
        self.is_settled = True
        done, on_end = self.done, self.on_end
        self.done, self.on_end = _nobody, None
        done(reply, error)
        if on_end is not None:
            on_end(self, reply, error)


OnEnd = Callable[[Ask, Reply | None, FerrymanError | None], None]
"""Hear how an ask ended, after `done` did; the error is Gone where nobody waited any more."""


def _nobody(reply: Reply | None, error: FerrymanError | None) -> None:
    """Hear nothing."""
