"""Bring new versions in, step by step, and take them back: the rollouts of one server."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Coroutine
from typing import Any, Protocol

from ferryman.core.errors import ConfigError, FerrymanError, NotFound, NotReady
from ferryman.server.control.rollout_plan import Plan
from ferryman.server.control.rollout_record import KEY, Record, read_record
from ferryman.server.control.rollout_run import Clock, OpenComparer, Repository, Run, Tools, open_comparer
from ferryman.server.data.ask import Ask, Reply
from ferryman.server.data.dataplane import Dataplane

_TICK_S = 0.25

_log = logging.getLogger("ferryman.rollout")


class Conflict(FerrymanError):
    """Say that a rollout is not at a point where this can be done."""


class Memory(Protocol):
    """Remember JSON values over a restart."""

    def get(self, key: str) -> Any:  # JSON
        """Give what was put there last, or None."""

    def keys(self) -> list[str]:
        """Give every key that has a value."""

    async def put(self, key: str, value: Any) -> None:  # JSON
        """Remember a value; raises FerrymanError where that can't be done."""


class Rollouts:
    """Steer rollouts, at most one a model. Call `resume` once the active versions are loaded, and keep `run` running.

    A rollout goes loading -> shadow -> canary steps -> promoted, or ends as rolled back, or aborted where it never got a
    request. Each change is remembered before the next one, so that a killed server goes on at the step where it was.
    """

    def __init__(
        self, plane: Dataplane, repository: Repository, memory: Memory, *, clock: Clock = time.monotonic,
        wall: Clock = time.time, comparer: OpenComparer = open_comparer,
    ) -> None:  # fmt: skip
        self._tools = Tools(plane, repository, clock, wall, comparer)
        self._memory = memory
        self._runs: dict[str, Run] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loading: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Judge every rollout, now and then; returns only when cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            await self.tick()

    async def tick(self) -> None:
        """Judge every rollout once, and do what follows from it."""
        for run in list(self._runs.values()):
            async with self._lock(run.record.model):
                try:
                    await self._advance(run)
                except Exception:  # one model's trouble must not stop the watch over the others
                    _log.exception("rollout of '%s' could not be judged", run.record.model)
                await self._save(run)

    async def close(self) -> None:
        """Leave everything as it is, for the next start."""
        for run in self._runs.values():
            run.cut()
        self._watch()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def start(self, model: str, version: str, plan: Plan) -> Record:
        """Begin a rollout; the version is loaded beside this. Raises Conflict where one runs, NotFound, NotReady."""
        async with self._lock(model):
            before = self._runs.get(model)
            if before is not None and before.record.is_running:
                raise Conflict(
                    f"a rollout of '{model}' to version {before.record.candidate} runs already",
                    hint="promote it or take it back first",
                )
            stable = self._tools.plane.find(model).version
            if version == stable:
                raise Conflict(f"version {version} of '{model}' is the active one", hint="name another version")
            if before is not None and before.record.is_old_kept and before.record.stable != version:
                self._retire(before, before.record.stable)
            run = Run(Record(model=model, stable=stable, candidate=version, plan=plan), self._tools)
            self._runs[model] = run
            self._tell(run, "started", f"from version {stable} to {version}")
            await self._save(run)
            self._load(run)
            return run.record

    async def promote(self, model: str, reason: str = "asked for") -> Record:
        """Make the candidate the active version now, whatever steps are left."""
        async with self._lock(model):
            run = self._running(model, but="loading")
            await self._promote(run, reason)
            await self._save(run)
            return run.record

    async def back(self, model: str, reason: str = "asked for") -> Record:
        """Go back to the version from before: end a running rollout, or undo a promotion."""
        async with self._lock(model):
            run = self._run(model)
            if run.record.is_running:
                self._back(run, reason)
            elif run.record.phase == "promoted":
                await self._undo(run, reason)
            else:
                raise Conflict(f"the rollout of '{model}' is {run.record.phase} already")
            await self._save(run)
            return run.record

    async def pause(self, model: str) -> Record:
        """Stay at the present step; harm still ends the rollout."""
        return await self._set_paused(model, True)

    async def unpause(self, model: str) -> Record:
        """Go on from the present step, with figures that start anew."""
        return await self._set_paused(model, False)

    def status(self, model: str | None = None) -> list[dict[str, Any]]:  # JSON
        """Describe one model's rollout, or all; raises NotFound."""
        runs = list(self._runs.values()) if model is None else [self._run(model)]
        now_s = self._tools.clock()
        return [
            {
                **run.record.as_json(),
                "weight": run.record.weight,
                "active": self._tools.plane.active(run.record.model),
                "step_s": round(now_s - run.window.started_s, 1),
                "figures": run.window.told(),
            }
            for run in runs
        ]

    async def resume(self) -> None:
        """Go on with what was remembered: a running rollout at its step, with figures that start anew."""
        for key in self._memory.keys():
            if key.startswith(KEY):
                try:
                    record = read_record(self._memory.get(key))
                except ConfigError as error:
                    _log.error("%s", error)
                    continue
                await self._resume(Run(record.model_copy(update={"is_old_kept": False}), self._tools))

    async def _resume(self, run: Run) -> None:
        record = run.record
        self._runs[record.model] = run
        if not record.is_running:
            run.is_saved = True
            return
        async with self._lock(record.model):
            active = self._tools.plane.active(record.model)
            if active == record.candidate:  # killed between the promotion and its note
                run.end("promoted")
                self._tell(run, "promoted", "the server had stopped before it wrote this down")
            elif active != record.stable:
                run.end("aborted")
                self._tell(run, "aborted", f"the active version is {active} now, no longer {record.stable}")
            else:
                self._tell(run, "resumed", "the server was started again: the figures of this step start anew")
                self._load(run)
            await self._save(run)

    def _load(self, run: Run) -> None:
        """Load the candidate, then begin the step of its record."""
        task = self._spawn(self._begin(run))
        self._loading[run.record.model] = task

    async def _begin(self, run: Run) -> None:
        record = run.record
        try:
            await self._tools.repository.load(record.model, record.candidate, activate=False)
        except FerrymanError as error:
            async with self._lock(record.model):
                run.end("aborted" if record.phase == "loading" else "rolled back")
                self._tell(run, run.record.phase, f"version {record.candidate} can't be loaded: {error}")
                await self._save(run)
            return
        async with self._lock(record.model):
            if not run.record.is_running:
                return
            try:
                run.begin()
            except FerrymanError as error:
                run.end("aborted")
                self._tell(run, "aborted", str(error))
                self._retire(run, record.candidate)
            else:
                self._first_step(run)
            await self._save(run)

    def _first_step(self, run: Run) -> None:
        record = run.record
        if record.phase != "loading":
            run.enter(record.phase, record.step)
        elif record.plan.shadow > 0:
            run.enter("shadow")
        elif record.plan.steps:
            run.enter("canary")
        else:
            run.enter("shadow")  # a plan without any step: promoted at the first look that finds no harm
        self._watch()
        self._tell(run, run.record.phase, self._where(run))

    async def _advance(self, run: Run) -> None:
        record = run.record
        if record.phase == "promoted":
            if record.is_old_kept and self._tools.clock() >= run.keep_until_s:
                run.record = record.model_copy(update={"is_old_kept": False})
                self._tell(run, "released", f"version {record.stable} is kept no longer")
                self._retire(run, record.stable)
            return
        if record.phase not in ("shadow", "canary"):
            return
        if self._tools.plane.active(record.model) != record.stable:
            run.end("aborted")
            self._tell(run, "aborted", "the active version was changed by hand")
            self._watch()
            return
        verdict = run.verdict()
        reason = "; ".join(verdict.reasons)
        if verdict.action == "back":
            self._back(run, reason)
        elif verdict.action == "pause":
            run.pause(True)
            self._tell(run, "paused", reason)
        elif verdict.action == "advance":
            await self._next(run, reason)

    async def _next(self, run: Run, reason: str) -> None:
        record = run.record
        step = 0 if record.phase == "shadow" else record.step + 1
        if step < len(record.plan.steps):
            self._tell(run, "passed", reason)
            run.enter("canary", step)
            self._tell(run, "canary", self._where(run))
        elif record.plan.auto_promote:
            await self._promote(run, f"every step passed; the last: {reason}")
        else:
            run.pause(True)
            self._tell(run, "paused", f"every step passed; promote it by hand. The last: {reason}")

    async def _promote(self, run: Run, reason: str) -> None:
        record = run.record
        figures = run.window.told()
        try:
            await self._tools.repository.activate(record.model, record.candidate)
        except FerrymanError as error:
            run.pause(True)
            self._tell(run, "paused", f"it can't be promoted: {error}")
            return
        run.end("promoted")
        run.record = run.record.model_copy(update={"is_old_kept": True})
        run.keep_until_s = self._tools.clock() + record.plan.keep_s
        self._watch()
        kept = f"version {record.stable} stays loaded for {record.plan.keep_s:g} s"
        self._tell(run, "promoted", f"{reason}; {kept}", figures)

    def _back(self, run: Run, reason: str) -> None:
        figures = run.window.told()
        was_loading = run.record.phase == "loading"
        run.end("aborted" if was_loading else "rolled back")  # from here on nobody new is sent there
        self._watch()
        self._tell(run, run.record.phase, reason, figures)
        task = self._loading.pop(run.record.model, None)
        if was_loading and task is not None:
            task.cancel()
        self._retire(run, run.record.candidate)

    async def _undo(self, run: Run, reason: str) -> None:
        record, tools = run.record, self._tools
        if tools.plane.active(record.model) != record.candidate:
            raise Conflict(
                f"the active version of '{record.model}' was changed since", hint="activate the one you want"
            )
        if not record.is_old_kept:
            await tools.repository.load(record.model, record.stable, activate=False)
        await tools.repository.activate(record.model, record.stable)
        run.end("rolled back")
        run.record = run.record.model_copy(update={"is_old_kept": False})
        self._tell(run, "rolled back", reason)
        self._retire(run, record.candidate)

    async def _set_paused(self, model: str, is_paused: bool) -> Record:
        async with self._lock(model):
            run = self._running(model, but="loading")
            if run.record.is_paused == is_paused:
                raise Conflict(f"the rollout of '{model}' is {'paused already' if is_paused else 'not paused'}")
            run.pause(is_paused)
            if not is_paused:
                run.restart_window()
            self._tell(run, "paused" if is_paused else "resumed", "asked for")
            await self._save(run)
            return run.record

    def _retire(self, run: Run, version: str) -> None:
        """Unload a version once it has answered what it was asked, beside everything else."""
        self._spawn(self._unload(run, version))

    async def _unload(self, run: Run, version: str) -> None:
        model = run.record.model
        try:
            lane = self._tools.plane.find(model, version).lane
            await asyncio.wait_for(lane.drained(), run.record.plan.drain_s)
        except (NotFound, NotReady, TimeoutError):
            pass  # not there any more, or it takes too long: the repository's own deadline decides
        async with self._lock(model):
            if self._is_needed(model, version):
                return
            with contextlib.suppress(NotFound):
                try:
                    await self._tools.repository.unload(model, version)
                except NotReady as error:
                    _log.warning("version %s of '%s' can't be unloaded: %s", version, model, error)

    def _is_needed(self, model: str, version: str) -> bool:
        """Tell whether a version is wanted again: active, or in the rollout that runs by now."""
        record = self._runs[model].record
        is_in_rollout = record.is_running and version in (record.stable, record.candidate)
        return is_in_rollout or self._tools.plane.active(model) == version

    def _watch(self) -> None:
        """Hear of requests only while there is a rollout to judge: nothing of this costs anything else."""
        is_needed = any(run.record.phase in ("shadow", "canary") for run in self._runs.values())
        observers = self._tools.plane.observers
        if is_needed and self._observe not in observers:
            observers.append(self._observe)
        elif not is_needed and self._observe in observers:
            observers.remove(self._observe)

    def _observe(
        self, ask: Ask, name: str, version: str, reply: Reply | None, error: FerrymanError | None, seconds: float
    ) -> None:
        run = self._runs.get(name)
        if run is not None:
            run.observe(ask, version, reply, error, seconds)

    async def _save(self, run: Run) -> None:
        if run.is_saved:
            return
        try:
            await self._memory.put(KEY + run.record.model, run.record.as_json())
            run.is_saved = True
        except FerrymanError as error:  # tried again at the next tick; a rollback doesn't wait for a disk
            _log.error("the rollout of '%s' can't be remembered: %s", run.record.model, error)

    def _tell(self, run: Run, kind: str, reason: str, figures: dict[str, object] | None = None) -> None:
        run.note(kind, reason, figures if figures is not None else run.window.told())
        record = run.record
        line = {"model": record.model, "from": record.stable, "to": record.candidate, **record.events[-1].model_dump()}
        _log.info("%s", json.dumps({"event": "rollout", **line}))

    def _where(self, run: Run) -> str:
        record = run.record
        shadow = f"{record.plan.shadow:.0%} of the requests shadowed" if record.plan.shadow else "no shadow"
        if record.phase == "shadow":
            return shadow
        return f"step {record.step + 1} of {len(record.plan.steps)}: {record.weight:.1%} of the requests; {shadow}"

    def _running(self, model: str, *, but: str) -> Run:
        run = self._run(model)
        if not run.record.is_running or run.record.phase == but:
            raise Conflict(f"the rollout of '{model}' is {run.record.phase}", hint="ferryman rollout status shows it")
        return run

    def _run(self, model: str) -> Run:
        run = self._runs.get(model)
        if run is None:
            raise NotFound(f"there is no rollout of '{model}'", hint="ferryman rollout start MODEL --version V")
        return run

    def _lock(self, model: str) -> asyncio.Lock:
        return self._locks.setdefault(model, asyncio.Lock())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:  # what it awaits is its own
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
