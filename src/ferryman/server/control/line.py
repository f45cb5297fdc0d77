"""What runs of one model, and who waits for it."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field

from ferryman.core.errors import NotReady
from ferryman.server.control.supervisor import Supervisor
from ferryman.server.data.models import Served


@dataclass(frozen=True, slots=True)
class Failure:
    """Hold why an edition could not be served; `digest` says of which content."""

    digest: str
    reason: str


@dataclass(slots=True)
class Line:
    """Hold one model's supervisors by version, what failed, and the loads under way; `lock` gives them their turns.

    `evicted` are versions that a request brings back, `waking` those on their way. `is_wanted` is False
    where somebody unloaded the model: then nothing but a load brings it back.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    running: dict[str, Supervisor] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    evicted: dict[str, Served] = field(default_factory=dict)
    waking: set[str] = field(default_factory=set)
    is_wanted: bool = True
    loads: dict[asyncio.Task[None], str] = field(default_factory=dict)

    async def run(self, load: Coroutine[None, None, None], name: str, version: str) -> None:
        """Run a load so that only `cancel` ends it, not a caller who leaves; raises NotReady where it was cancelled."""
        task = asyncio.ensure_future(load)
        self.loads[task] = version
        task.add_done_callback(self._forget)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise NotReady(f"model '{name}' was unloaded before it was loaded", hint="load it again") from None
            raise

    def cancel(self, version: str | None) -> bool:
        """End the loads of a version, or all of them; tells whether there were any."""
        found = [task for task, loading in self.loads.items() if version is None or loading == version]
        for task in found:
            task.cancel()
        return bool(found)

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self.loads[task]
        if not task.cancelled():
            task.exception()  # whoever asked for it may have left
