"""What runs of one model, and who waits for it."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field

from ferryman.core.errors import NotReady
from ferryman.server.control.shelf import Edition
from ferryman.server.control.supervisor import Supervisor
from ferryman.server.data.models import Served


@dataclass(frozen=True, slots=True)
class Failure:
    """Hold why an edition, as it lay on the disk then, could not be served; the next try may go well if `may_pass`."""

    edition: Edition
    reason: str
    may_pass: bool = False


@dataclass(slots=True)
class Line:
    """Hold one model's supervisors by version, what failed, and the loads under way; `lock` gives them their turns.

    `evicted` are versions that a request brings back, `waking` those on their way. `is_wanted` is False
    where somebody unloaded the model: then nothing but a load brings it back, nor an `unwanted` version. Who holds
    `choosing` finds the version that should serve; it is done again where that `is_waiting`.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    choosing: asyncio.Lock = field(default_factory=asyncio.Lock)
    running: dict[str, Supervisor] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    evicted: dict[str, Served] = field(default_factory=dict)
    waking: set[str] = field(default_factory=set)
    unwanted: set[str] = field(default_factory=set)
    is_wanted: bool = True
    is_waiting: bool = False
    loads: dict[asyncio.Task[None], str] = field(default_factory=dict)

    def serves(self, edition: Edition) -> bool:
        """Tell whether an edition answers requests, now or once the next one wakes it, or may soon again."""
        running, asleep = self.running.get(edition.version), self.evicted.get(edition.version)
        bundles = [each.bundle for each in (running, asleep) if each is not None]
        is_there = any(bundle.manifest.digest == edition.digest for bundle in bundles)
        return is_there and not (running is not None and running.trouble and (running.is_hopeless or running.engine))

    def has_failed(self, edition: Edition) -> bool:
        """Tell whether an edition could not be served, and lies there as it did then."""
        failure = self.failures.get(edition.version)
        return failure is not None and failure.edition == edition

    def give_up(self, edition: Edition) -> None:
        """Hold it against an edition that its supervisor has no hope for it: the bundle's own, not an engine's."""
        running = self.running.get(edition.version)
        if running is None or running.engine is not None or running.bundle.manifest.digest != edition.digest:
            return
        if running.trouble and running.is_hopeless:
            self.failures.setdefault(edition.version, Failure(edition, running.trouble))

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
