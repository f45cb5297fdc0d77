"""A whole server without its transports: real workers, lanes, a dataplane and a repository."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from ferryman.core.bundle import Bundle
from ferryman.core.errors import FerrymanError
from ferryman.server.control.crew import Choices, ControlSettings, Crew, Patience, Worker
from ferryman.server.control.repository import Repository
from ferryman.server.control.supervisor import Supervisor
from ferryman.server.data.ask import Ask, Reply
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.job import Loaded
from ferryman.server.data.lane import Lane, LaneLimits
from ferryman.server.data.signals.metrics import Metrics
from ferryman.server.data.signals.served import ServedMetrics
from ferryman.server.data.worker import link
from ferryman.server.data.worker.zygote import Zygote

DEADLINE_S = 30.0
Result = Reply | FerrymanError


@dataclass
class House:
    """Hold a repository and what it works with; `hired` is every worker that was ever started."""

    repository: Repository
    plane: Dataplane
    metrics: Metrics
    hired: list[Worker] = field(default_factory=list)

    def ask(
        self, model: str, version: str | None = None, *, within_s: float = DEADLINE_S, **tensors: Any
    ) -> "asyncio.Future[Result]":
        """Ask something of tensors given as lists; the future holds the reply or the error."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Result] = loop.create_future()

        def done(reply: Reply | None, error: FerrymanError | None) -> None:
            outcome = reply if reply is not None else error
            assert outcome is not None
            answered.set_result(outcome)  # raises where an ask is settled twice

        arrays = {name: np.asarray(value, np.float32) for name, value in tensors.items()}
        now_s = loop.time()
        self.plane.submit(
            Ask(
                model, version, done, tensors=arrays, rows=1, shape=tuple(arrays), arrived_s=now_s,
                deadline_s=now_s + within_s,
            )
        )  # fmt: skip
        return answered

    async def first(self, model: str, version: str | None = None, **tensors: Any) -> float:
        """Give the first number of an answer."""
        reply = await self.ask(model, version, **tensors)
        assert isinstance(reply, Reply), reply
        assert reply.outputs is not None
        return float(next(iter(reply.outputs.values())).flat[0])

    def supervisor(self, model: str, version: str | None = None) -> Supervisor:
        """Give the one of a loaded version."""
        return self.repository.lines[model].running[version or self.plane.active(model) or ""]

    def pids(self, model: str) -> list[int]:
        """Give the processes that answer for a model's active version."""
        return [hand.pid for hand in self.supervisor(model).hands()]

    def states(self, model: str) -> dict[str, str]:
        """Give the reason why each version doesn't answer, nothing for one that does."""
        return {row["version"]: row["reason"] for row in self.plane.index() if row["name"] == model}


QUICK = Patience(first_s=0.02, longest_s=0.4, losses=5, within_s=20.0)


@asynccontextmanager
async def house(
    paths: Sequence[Path], choices: Choices | None = None, *, starts: bool = True, **settings: Any
) -> AsyncIterator[House]:
    """Serve bundles; everything ends with the block."""
    loop = asyncio.get_running_loop()
    zygote = Zygote(("numpy",))
    hired: list[Worker] = []

    def hire(on_free: Callable[[], None], on_lost: Callable[[str], None]) -> Worker:
        hired.append(link.Worker(zygote, on_free=on_free, on_lost=on_lost, arena_bytes=1 << 22))
        return hired[-1]

    def open_lane(bundle: Bundle, loaded: Loaded, _: ServedMetrics) -> Lane:
        return Lane(loop, LaneLimits(max_batch=loaded.max_batch), bundle.manifest.name)

    plane, metrics = Dataplane(loop), Metrics()
    merged = ControlSettings(**{"probe_s": 0.0, "check_s": 0.05, "threads": 1, "patience": QUICK, **settings})
    repository = Repository(paths, Crew(hire, open_lane, plane, metrics, merged), choices)
    try:
        if starts:
            repository.scan()
            await repository.start()
        yield House(repository, plane, metrics, hired)
    finally:
        await repository.close()
        zygote.close()


def live(story: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine on the server's kind of loop, with a deadline."""

    async def bounded() -> None:
        async with asyncio.timeout(4 * DEADLINE_S):
            await story()

    uvloop.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


def is_running(pid: int) -> bool:
    """Tell whether a process is there."""
    return os.path.exists(f"/proc/{pid}")
