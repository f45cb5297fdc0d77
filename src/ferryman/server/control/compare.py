"""Compare what two versions answered to the same request, beside the hot path."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ferryman.core.bundle import Bundle
from ferryman.core.errors import ConfigError, FerrymanError
from ferryman.core.signature import Array
from ferryman.core.task import Agreement, Answer, Task, bind_task
from ferryman.server.data.ask import Ask, Reply
from ferryman.tasks.distance import measure_distance

TENSORS_APART = "max_rel_diff"  # of raw tensors: max |a-b| over max |b| of each output
_SAME_TENSORS = 1e-3
_MOST_WAITING = 64
_EVERY_S = 0.02  # at most 50 a second: comparing shares the interpreter with the hot path

_log = logging.getLogger("ferryman.rollout")


@dataclass(frozen=True, slots=True)
class Difference:
    """Say how far two answers are apart; `beyond` are the figures over their limits."""

    figures: dict[str, float]
    beyond: dict[str, float]


Told = Callable[[Difference | FerrymanError | None], None]
"""Hear of one shadowed request, on the loop: the difference, the shadow's error, or None where it was not compared."""


def limits_of(bundle: Bundle, task: Task, asked: Mapping[str, float] | None) -> dict[str, float]:
    """Give how far answers may be apart: as asked, else as for golden samples; raises ConfigError for other figures."""
    if asked is None:
        return dict(bundle.tolerance)
    answers = [golden.answer for golden in bundle.golden[:1]]
    known = {*task.agreement(answers, answers).figures, *task.tolerance, TENSORS_APART}
    if unknown := sorted(set(asked) - known):
        raise ConfigError(
            f"agreement: no figure is called '{unknown[0]}'", hint=f"there are {', '.join(sorted(known))}"
        )
    return dict(asked)


class Comparer:
    """Compare in a thread, in order; what comes while too many wait, or too fast, is dropped and told as None."""

    def __init__(self, bundle: Bundle, asked: Mapping[str, float] | None, told: Told) -> None:
        self._task = bind_task(bundle.deployment.task, bundle.artifact.signature)
        self._limits = limits_of(bundle, self._task, asked)
        if asked is None:
            self._limits.setdefault(TENSORS_APART, _SAME_TENSORS)
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compare")
        self._waiting = 0
        self._next_s = 0.0
        self._is_closed = False

    def hear(self, ask: Ask, reply: Reply, echo: Reply | FerrymanError) -> None:
        """Take both answers to one request; never blocks."""
        if self._is_closed:
            return
        if isinstance(echo, FerrymanError):
            self._told(echo)
            return
        now_s = self._loop.time()
        if self._waiting >= _MOST_WAITING or now_s < self._next_s:
            self._told(None)
            return
        self._next_s = now_s + _EVERY_S
        self._waiting += 1
        answers = (reply.answers, echo.answers)
        # Copied, as what waits here would else keep a worker's shared memory from those who ask now.
        outputs = (_copied(reply.outputs), _copied(echo.outputs))
        work = self._loop.run_in_executor(self._thread, self._compare, answers, outputs)
        work.add_done_callback(self._finish)

    def close(self) -> None:
        """Compare no more; nothing is told after this."""
        self._is_closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _finish(self, work: "asyncio.Future[Difference]") -> None:
        self._waiting -= 1
        if not self._is_closed and not work.cancelled():
            self._told(work.result())

    def _compare(
        self,
        answers: tuple[Sequence[Answer] | None, Sequence[Answer] | None],
        outputs: tuple[dict[str, Array], dict[str, Array]],
    ) -> Difference:
        before, after = answers
        try:
            if before is not None and after is not None:
                figures = self._task.agreement(before, after).figures
            else:
                figures = {TENSORS_APART: distance(*outputs)}
        except Exception as error:  # noqa: BLE001 - a task is a plug-in, and what it can't compare does not agree
            _log.warning("two answers can't be compared: %s: %s", type(error).__name__, error)
            return Difference({}, {f"can't be compared: {type(error).__name__}": float("inf")})
        limits = {name: limit for name, limit in self._limits.items() if name in figures}
        return Difference(figures, Agreement(figures).beyond(limits))


def distance(before: Mapping[str, Array], after: Mapping[str, Array]) -> float:
    """Give max |a-b| over max |b| of the worst output; infinite where names, shapes or finiteness differ."""
    if before.keys() != after.keys():
        return float("inf")
    return max((measure_distance(before[name], after[name])[1] for name in before), default=0.0)


def _copied(outputs: Mapping[str, Array] | None) -> dict[str, Array]:
    return {name: np.array(value) for name, value in (outputs or {}).items()}
