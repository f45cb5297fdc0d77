"""Bring new versions in, step by step, and take them back: the rollouts of one server."""

import asyncio
import logging
import time
from typing import Any

from ferryman.core.errors import ConfigError, FerrymanError, NotFound, NotReady
from ferryman.core.task import bind_task
from ferryman.server.control.compare import limits_of
from ferryman.server.control.rollout_moves import Conflict, Memory, Moves
from ferryman.server.control.rollout_plan import Plan
from ferryman.server.control.rollout_record import KEY, Record, read_record
from ferryman.server.control.rollout_run import Clock, OpenComparer, Repository, Run, Tools, open_comparer
from ferryman.server.data.ask import Ask, Reply
from ferryman.server.data.dataplane import Dataplane

_TICK_S = 0.25

_log = logging.getLogger("ferryman.rollout")


class Rollouts:
    """Steer rollouts, at most one a model. Call `resume` once the active versions are loaded, and keep `run` running.

    A rollout goes loading -> shadow -> canary steps -> promoted, or ends as rolled back, or as aborted where there was
    nothing to judge. Each step is remembered, so that a killed server goes on at the step where it was.
    """

    def __init__(
        self, plane: Dataplane, repository: Repository, memory: Memory, *, clock: Clock = time.monotonic,
        wall: Clock = time.time, comparer: OpenComparer = open_comparer,
    ) -> None:  # fmt: skip
        self._tools = Tools(plane, repository, clock, wall, comparer)
        self._memory = memory
        self._moves = Moves(self._tools, memory, self._is_needed)
        self._runs: dict[str, Run] = {}

    async def run(self) -> None:
        """Judge every rollout, now and then; returns only when cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            await self.tick(waits=False)

    async def tick(self, *, waits: bool = True) -> None:
        """Judge every rollout once, and do what follows from it; those that are about to move are waited for or not."""
        for model in list(self._runs):
            if not waits and self._moves.lock(model).locked():
                continue  # a load for the way back takes its time: the others are judged meanwhile
            async with self._moves.lock(model):
                run = self._runs[model]
                try:
                    await self._advance(run)
                except Exception:  # noqa: BLE001 - one model's trouble must not stop the watch over the others
                    _log.exception("the rollout of '%s' could not be judged", model)
                await self._moves.save(run)
        self._watch()

    async def close(self) -> None:
        """Leave everything as it is, for the next start."""
        for run in self._runs.values():
            run.cut()
        if self._observe in self._tools.plane.observers:
            self._tools.plane.observers.remove(self._observe)
        await self._moves.close()

    async def start(self, model: str, version: str, plan: Plan) -> Record:
        """Begin a rollout; the version is loaded beside this.

        The active version is remembered as the one of choice. Raises Conflict where a rollout runs, NotFound, NotReady,
        and FerrymanError where nothing can be remembered.
        """
        async with self._moves.lock(model):
            before = self._runs.get(model)
            if before is not None and before.record.is_running:
                raise Conflict(
                    f"a rollout of '{model}' to version {before.record.candidate} runs already",
                    hint="promote it or take it back first",
                )
            active = self._tools.plane.find(model)
            limits_of(active.bundle, bind_task(active.bundle.deployment.task, active.loaded.signature), plan.agreement)
            stable = active.version
            if version == stable:
                raise Conflict(f"version {version} of '{model}' is the active one", hint="name another version")
            await self._tools.repository.look_for(model, version)
            # By default the highest version is active: after a restart that would be the candidate.
            await self._tools.repository.activate(model, stable)
            run = Run(Record(model=model, stable=stable, candidate=version, plan=plan), self._tools)
            self._runs[model] = run
            if before is not None and before.record.is_old_kept:
                self._moves.retire(before, before.record.stable)
            self._moves.tell(run, "started", f"from version {stable} to {version}")
            await self._moves.save(run)
            self._moves.load(run)
            self._watch()
            return run.record

    async def promote(self, model: str) -> Record:
        """Make the candidate the active version now, whatever steps are left; raises NotReady where that fails."""
        async with self._moves.lock(model):
            run = self._judged(model)
            await self._moves.promote(run, "asked for")
            await self._moves.save(run)
            if run.record.phase != "promoted":
                raise NotReady(run.record.events[-1].reason)
            return run.record

    async def back(self, model: str, why: str = "asked for") -> Record:
        """Go back to the version from before: end a running rollout, or undo a promotion."""
        async with self._moves.lock(model):
            run = self._run(model)
            if run.record.is_running:
                self._moves.back(run, why)
            elif run.record.phase == "promoted":
                await self._moves.undo(run, why)
            else:
                raise Conflict(f"the rollout of '{model}' is {run.record.phase} already")
            await self._moves.save(run)
            return run.record

    async def pause(self, model: str, why: str = "asked for") -> Record:
        """Stay at the present step; harm still ends the rollout."""
        return await self._set_paused(model, True, why)

    async def unpause(self, model: str) -> Record:
        """Go on from the present step, with figures that start anew."""
        return await self._set_paused(model, False, "asked for")

    def status(self, model: str | None = None) -> list[dict[str, Any]]:  # JSON
        """Describe one model's rollout, or all; raises NotFound."""
        runs = list(self._runs.values()) if model is None else [self._run(model)]
        return [{**run.told(), "active": self._tools.plane.active(run.record.model)} for run in runs]

    def needs(self, model: str, version: str) -> bool:
        """Tell whether a version must stay loaded for a rollout: it is in one, or kept for the way back."""
        run = self._runs.get(model)
        if run is None:
            return False
        record = run.record
        is_kept = record.is_old_kept and version == record.stable
        return is_kept or (record.is_running and version in (record.stable, record.candidate))

    async def resume(self) -> None:
        """Go on with what was remembered: a running rollout at its step, with figures that start anew."""
        for value in list((self._memory.get(KEY) or {}).values()):
            try:
                record = read_record(value)
            except ConfigError as error:
                _log.error("%s", error)
                continue
            run = Run(record, self._tools)
            run.is_saved = True
            run.release_old()  # only active versions were loaded
            self._runs[record.model] = run
            if record.is_running:
                async with self._moves.lock(record.model):
                    self._go_on(run)
                    await self._moves.save(run)
        self._watch()

    def _go_on(self, run: Run) -> None:
        record = run.record
        active = self._tools.plane.active(record.model)
        if active == record.candidate:  # stopped between the promotion and its note
            run.end("promoted")
            self._moves.tell(run, "promoted", "the server had stopped before it wrote this down")
        elif active != record.stable:
            self._moves.abort(run, f"the active version is {active} now, no longer {record.stable}")
        else:
            self._moves.tell(run, "resumed", "the server was started again: the figures of this step start anew")
            self._moves.load(run)

    async def _advance(self, run: Run) -> None:
        record = run.record
        if record.is_old_kept and self._tools.clock() >= run.keep_until_s:
            self._moves.release(run)
        if not run.is_judged:
            return
        if self._tools.plane.active(record.model) != record.stable:
            self._moves.abort(run, "the active version was changed by hand")
            return
        verdict = run.verdict()
        reason = "; ".join(verdict.reasons)
        if verdict.action == "back":
            self._moves.back(run, reason)
        elif verdict.action == "pause":
            run.pause(True)
            self._moves.tell(run, "paused", reason)
        elif verdict.action == "advance":
            await self._moves.next_step(run, reason)

    async def _set_paused(self, model: str, is_paused: bool, why: str) -> Record:
        async with self._moves.lock(model):
            run = self._judged(model)
            if run.record.is_paused == is_paused:
                raise Conflict(f"the rollout of '{model}' is {'paused already' if is_paused else 'not paused'}")
            run.pause(is_paused)
            if not is_paused:
                run.restart_window()
            self._moves.tell(run, "paused" if is_paused else "resumed", why)
            await self._moves.save(run)
            return run.record

    def _is_needed(self, model: str, version: str) -> bool:
        return self.needs(model, version) or self._tools.plane.active(model) == version

    def _watch(self) -> None:
        """Hear of requests only while there is something to judge: else this costs nothing."""
        is_needed = any(run.record.is_running for run in self._runs.values())
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

    def _judged(self, model: str) -> Run:
        run = self._run(model)
        if not run.is_judged:
            if run.record.is_running:
                raise Conflict(f"the rollout of '{model}' is {run.record.phase} still", hint="ask again in a moment")
            raise Conflict(
                f"the rollout of '{model}' has ended: version {run.record.candidate} was {run.record.phase}",
                hint=f"ferryman rollout start {model} --version V begins another",
            )
        return run

    def _run(self, model: str) -> Run:
        run = self._runs.get(model)
        if run is None:
            raise NotFound(f"there is no rollout of '{model}'", hint="ferryman rollout start MODEL --version V")
        return run
