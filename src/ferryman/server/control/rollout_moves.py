"""What a rollout does to a server at each turn: load, step on, promote, go back, unload."""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from ferryman.core.errors import FerrymanError, NotFound, NotReady
from ferryman.server.control.rollout_record import KEY
from ferryman.server.control.rollout_run import Run, Tools

_log = logging.getLogger("ferryman.rollout")


class Conflict(FerrymanError):
    """Say that a rollout is not at a point where this can be done."""


class Memory(Protocol):
    """Remember JSON values over a restart."""

    def get(self, key: str) -> Any:  # JSON
        """Give what was put there last, or None."""

    async def put(self, key: str, value: Any) -> None:  # JSON
        """Remember a value; raises FerrymanError where that can't be done."""


class Moves:
    """Make the moves; but for `lock`, `load` and `retire` the caller holds the model's lock."""

    def __init__(self, tools: Tools, memory: Memory, is_needed: Callable[[str, str], bool]) -> None:
        self._tools = tools
        self._memory = memory
        self._is_needed = is_needed  # whether a model's version must stay loaded
        self._saving = asyncio.Lock()
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loading: dict[str, asyncio.Task[None]] = {}

    def lock(self, model: str) -> asyncio.Lock:
        """Give the lock that lets one move of a model happen at a time."""
        return self._locks.setdefault(model, asyncio.Lock())

    async def close(self) -> None:
        """Leave off whatever runs beside."""
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def load(self, run: Run) -> None:
        """Load the candidate beside everything else, then begin the step of the record."""
        self._loading[run.record.model] = self._spawn(self._load_and_begin(run))

    async def next_step(self, run: Run, reason: str) -> None:
        """Go on to the next step, or to the promotion after the last."""
        record = run.record
        step = 0 if record.phase == "shadow" else record.step + 1
        if step < len(record.plan.steps):
            self.tell(run, "passed", reason)
            run.enter("canary", step)
            self.tell(run, "canary", _where(run))
        elif record.plan.auto_promote:
            await self.promote(run, f"every step passed; the last: {reason}")
        else:
            run.pause(True)
            self.tell(run, "paused", f"every step passed; promote it by hand. The last: {reason}")

    async def promote(self, run: Run, reason: str) -> None:
        """Make the candidate the active version; where that can't be remembered, it stays where it is."""
        record, figures = run.record, run.window.told()
        try:
            await self._tools.repository.activate(record.model, record.candidate)
        except FerrymanError as error:
            run.pause(True)
            self.tell(run, "paused", f"it can't be promoted: {error}")
            return
        run.end("promoted")
        run.keep_old()
        kept = f"version {record.stable} stays loaded for {record.plan.keep_s:g} s"
        self.tell(run, "promoted", f"{reason}; {kept}", figures)

    def back(self, run: Run, reason: str) -> None:
        """End a running rollout: nobody new is sent to the candidate from here on."""
        figures = run.window.told()
        was_loading = run.record.phase == "loading"
        run.end("aborted" if was_loading else "rolled back")
        self.tell(run, run.record.phase, reason, figures)
        task = self._loading.pop(run.record.model, None)
        if task is not None:
            task.cancel()
        self.retire(run, run.record.candidate)

    async def undo(self, run: Run, reason: str) -> None:
        """Take a promotion back; raises what loading the old version raises, where it isn't loaded any more."""
        record, tools = run.record, self._tools
        if tools.plane.active(record.model) != record.candidate:
            raise Conflict(
                f"the active version of '{record.model}' was changed since", hint="activate the one that you want"
            )
        if not record.is_old_kept:
            await tools.repository.load(record.model, record.stable, activate=False)
        await tools.repository.activate(record.model, record.stable)
        run.release_old()
        run.end("rolled back")
        self.tell(run, "rolled back", reason)
        self.retire(run, record.candidate)

    def release(self, run: Run) -> None:
        """Keep the old version of a promotion no longer."""
        run.release_old()
        self.tell(run, "released", f"version {run.record.stable} is kept no longer")
        self.retire(run, run.record.stable)

    def abort(self, run: Run, reason: str) -> None:
        """End a rollout that has become pointless; the candidate stays as it is."""
        run.end("aborted")
        self.tell(run, "aborted", reason)

    def retire(self, run: Run, version: str) -> None:
        """Unload a version once it has answered what it was asked, beside everything else."""
        self._spawn(self._unload(run.record.model, version, run.record.plan.drain_s))

    async def save(self, run: Run) -> None:
        """Remember a rollout that has changed; what can't be written now is tried again at the next tick."""
        if run.is_saved:
            return
        try:
            async with self._saving:
                known = self._memory.get(KEY) or {}
                await self._memory.put(KEY, {**known, run.record.model: run.record.as_json()})
        except FerrymanError as error:  # a rollback doesn't wait for a disk
            if not run.is_complained:
                _log.error("the rollout of '%s' can't be remembered: %s", run.record.model, error)
            run.is_complained = True
        else:
            run.is_saved, run.is_complained = True, False

    def tell(self, run: Run, kind: str, reason: str, figures: dict[str, object] | None = None) -> None:
        """Keep an event and log it."""
        run.note(kind, reason, figures if figures is not None else run.window.told())
        record = run.record
        line = {"model": record.model, "from": record.stable, "to": record.candidate, **record.events[-1].model_dump()}
        _log.info("%s", json.dumps({"event": "rollout", **line}))

    async def _load_and_begin(self, run: Run) -> None:
        record = run.record
        try:
            await self._tools.repository.load(record.model, record.candidate, activate=False)
        except FerrymanError as error:
            async with self.lock(record.model):
                known = f"; {error.hint}" if error.hint else ""
                self.abort(run, f"version {record.candidate} can't be loaded: {error}{known}")
                await self.save(run)
            return
        async with self.lock(record.model):
            try:
                run.begin()
            except FerrymanError as error:
                self.abort(run, str(error))
                self.retire(run, record.candidate)
            else:
                run.enter(*_first_step(run))
                self.tell(run, run.record.phase, _where(run))
            await self.save(run)

    async def _unload(self, model: str, version: str, drain_s: float) -> None:
        try:
            lane = self._tools.plane.find(model, version).lane
            await asyncio.wait_for(lane.drained(), drain_s)
        except (NotFound, NotReady, TimeoutError):
            pass  # not there any more, or it takes too long: the repository's own deadline decides
        async with self.lock(model):
            if self._is_needed(model, version):
                return
            try:
                await self._tools.repository.unload(model, version)
            except NotFound:
                pass  # it never came so far
            except FerrymanError as error:
                _log.warning("version %s of '%s' can't be unloaded: %s", version, model, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:  # what it awaits is its own
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _first_step(run: Run) -> tuple[Any, int]:  # a phase
    record = run.record
    if record.phase != "loading":
        return record.phase, record.step
    return ("shadow" if record.plan.shadow > 0 else "canary"), 0


def _where(run: Run) -> str:
    record = run.record
    shadow = f"{record.plan.shadow:.0%} of the requests shadowed" if record.plan.shadow else "no shadow"
    if record.phase == "shadow":
        return shadow
    return f"step {record.step + 1} of {len(record.plan.steps)}: {record.weight:.1%} of the requests; {shadow}"
