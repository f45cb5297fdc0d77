"""A few threads for inference and a queue with an end."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from ferryman.core.errors import Overloaded

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Job:
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]  # each job's own result
    work: Callable[[], Any]  # each job's own result


class Workers:
    """Run work in threads, in order; refuse it with Overloaded when `max_queue` others wait already.

    Use from one event loop. The threads are daemons: an engine that hangs can't keep the process for ever.
    """

    def __init__(self, *, count: int, max_queue: int) -> None:
        self.admitted = 0
        self._capacity = count + max_queue
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._awaited: set[asyncio.Future[Any]] = set()  # each job's own result
        self._threads = [
            threading.Thread(target=self._work, name=f"ferryman-worker-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Give what `work` gives, or raise what it raises."""
        if self.admitted >= self._capacity:
            raise Overloaded(
                f"{self.admitted} requests wait or run already, which is this server's limit", hint="try again later"
            )
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Result] = loop.create_future()
        self.admitted += 1
        self._awaited.add(future)
        future.add_done_callback(self._awaited.discard)
        self._jobs.put(_Job(loop, future, work))
        return await future

    def abandon(self, error: Exception) -> None:
        """Answer all that wait or run with `error`, now."""
        for future in list(self._awaited):
            if not future.done():
                future.set_exception(error)

    def close(self, *, deadline_s: float) -> bool:
        """Drop the work that waits and let the threads end; False where an engine still runs at the deadline."""
        with contextlib.suppress(Empty):
            while True:
                self._jobs.get_nowait()
        for _ in self._threads:
            self._jobs.put(None)
        # An engine that runs while the interpreter ends would abort the process.
        until_s = time.monotonic() + deadline_s
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            result: Any = None  # each job's own
            failure: BaseException | None = None
            try:
                if not job.future.done():
                    result = job.work()
            except BaseException as error:  # noqa: BLE001 - carried to the request that waits, whatever it is
                failure = error
            try:
                job.loop.call_soon_threadsafe(self._settle, job.future, result, failure)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

    def _settle(self, future: asyncio.Future[Any], result: object, failure: BaseException | None) -> None:
        self.admitted -= 1
        if future.done():
            return
        if failure is not None:
            future.set_exception(failure)
        else:
            future.set_result(result)
