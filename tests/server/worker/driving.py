"""Start workers for tests and ask them things."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from ferryman.core.errors import FerrymanError
from ferryman.core.signature import Array
from ferryman.core.task import Item
from ferryman.server.data.ask import Ask, Reply
from ferryman.server.data.job import Job, Loaded
from ferryman.server.data.worker.link import Worker
from ferryman.server.data.worker.order import LoadOrder
from ferryman.server.data.worker.zygote import Zygote

DEADLINE_S = 30.0
Result = Reply | FerrymanError


def drive(story: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine on the server's kind of loop, with a deadline."""

    async def bounded() -> None:
        async with asyncio.timeout(4 * DEADLINE_S):
            await story()

    uvloop.run(bounded())


def tensors(rows: int = 1, outputs: tuple[str, ...] | None = None, **values: Any) -> Ask:  # arrays or lists
    """Make an ask of tensors; lists become float32."""
    arrays = {
        name: value if isinstance(value, np.ndarray) else np.asarray(value, np.float32)
        for name, value in values.items()
    }
    return Ask("m", None, _ignore, tensors=arrays, rows=rows, outputs=outputs)


def items(*given: Item) -> Ask:
    """Make an ask of items."""
    return Ask("m", None, _ignore, items=given, rows=len(given))


def order(code: int, argument: float = 0.0) -> Ask:
    """Make an ask for the misbehaving model."""
    return tensors(order=[[code, argument]])


def _ignore(reply: Reply | None, error: FerrymanError | None) -> None:
    """Take nothing: a job's own callback has the results."""


@dataclass
class Driven:
    """Hold a worker and what it told its owner."""

    worker: Worker
    loaded: Loaded
    losses: list[str] = field(default_factory=list)
    frees: list[int] = field(default_factory=list)

    def begin(self, *asks: Ask) -> "asyncio.Future[Sequence[Result]]":
        """Send a job; the future fails if it is settled twice."""
        future: asyncio.Future[Sequence[Result]] = asyncio.get_running_loop().create_future()

        def settled(job: Job, results: Sequence[Result]) -> None:
            assert len(results) == len(asks)
            future.set_result(results)

        self.worker.run(Job(asks, settled))
        return future

    async def ask(self, *asks: Ask) -> Sequence[Result]:
        """Give the results of one job."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.begin(*asks)

    async def loss(self) -> str:
        """Wait until the worker is lost; give the reason."""
        await until(lambda: bool(self.losses))
        return self.losses[0]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.002)


class _Mother(Zygote):
    """Know whom a test hired, so that they can be let go."""

    def __init__(self, modules: Sequence[str]) -> None:
        super().__init__(modules)
        self.workers: list[Worker] = []


@asynccontextmanager
async def zygote(*modules: str) -> AsyncIterator[Zygote]:
    """Have a zygote for a while."""
    one = _Mother(("numpy", *modules))
    one.start()
    try:
        yield one
    finally:
        for worker in one.workers:
            await worker.stop(deadline_s=1)
        one.close()
        await asyncio.sleep(0)  # the links' last callbacks


async def hire(mother: Zygote, path: Path, *, arena_bytes: int = 1 << 30, **choices: Any) -> Driven:  # an order's
    """Load a bundle in a new worker."""
    losses: list[str] = []
    frees: list[int] = []
    worker = Worker(mother, on_free=lambda: frees.append(worker.free), on_lost=losses.append, arena_bytes=arena_bytes)
    if isinstance(mother, _Mother):
        mother.workers.append(worker)
    loaded = await worker.load(LoadOrder(path, **choices), deadline_s=DEADLINE_S)
    return Driven(worker, loaded, losses, frees)


def output(result: Result, name: str) -> Array:
    """Give one output of an answered ask."""
    assert isinstance(result, Reply), result
    assert result.outputs is not None
    return result.outputs[name]


def is_running(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            return stream.read().rsplit(b") ", 1)[1][:1] != b"Z"
    except OSError:
        return False


def open_files() -> int:
    """Give the number of this process's descriptors."""
    return len(os.listdir("/proc/self/fd"))
