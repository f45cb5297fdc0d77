"""Rollouts of real bundles in worker processes, with requests all the while: none may be lost."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ferryman.core import plugins
from ferryman.server.control.rollout import Rollouts
from ferryman.server.control.rollout_plan import Plan
from ferryman.server.control.state import State
from ferryman.server.data.ask import Reply
from tests.bundle.making import bundle_affine
from tests.server.control.house import House, house, live, until
from tests.server.misbehaving import ANSWER, PLUGIN, SEGFAULT, bundle_misbehaving, with_plugin

PLAN = Plan(shadow=0.5, steps=(0.1, 0.5), min_requests=20, step_s=0.1, keep_s=600.0, max_p99_ratio=1000.0)


@asynccontextmanager
async def rolling(repository: Path, folder: Path) -> AsyncIterator[tuple[House, Rollouts]]:
    """Serve a repository with rollouts that are judged as in a server."""
    memory = State(folder / "state")
    async with house([repository], memory) as one:
        rollouts = Rollouts(one.plane, one.repository, memory)
        await rollouts.resume()
        judging = asyncio.create_task(rollouts.run())
        try:
            yield one, rollouts
        finally:
            judging.cancel()
            await asyncio.gather(judging, return_exceptions=True)
            await rollouts.close()
            memory.close()


class Callers:
    """Ask all the time until the block ends, and count who answered what."""

    def __init__(self, one: House, model: str, **tensors: list[list[float]]) -> None:
        self.ended: Counter[str] = Counter()
        self._one, self._model, self._tensors = one, model, tensors
        self._is_over = False

    async def __aenter__(self) -> "Callers":
        self._task = asyncio.create_task(self._ask())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_over = True
        await self._task

    async def _ask(self) -> None:
        while not self._is_over:
            outcomes = await asyncio.gather(
                *(self._one.ask(self._model, None, within_s=30.0, **self._tensors) for _ in range(8))
            )
            self.ended.update(
                f"version {outcome.version}" if isinstance(outcome, Reply) else str(outcome) for outcome in outcomes
            )
            await asyncio.sleep(0.001)


def phase(rollouts: Rollouts, model: str) -> str:
    return str(rollouts.status(model)[0]["phase"])


def reason(rollouts: Rollouts, model: str) -> str:
    return str(rollouts.status(model)[0]["events"][-1]["reason"])


@pytest.fixture
def misbehaving_runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with_plugin(monkeypatch)
    monkeypatch.syspath_prepend(str(PLUGIN))
    plugins._load.cache_clear()
    yield
    plugins._load.cache_clear()


def test_a_good_version_is_promoted_by_itself_and_no_request_is_lost(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    bundle_affine(repository / "affine" / "1", factor=2.0)

    async def story() -> None:
        async with rolling(repository, tmp_path) as (one, rollouts):
            await asyncio.to_thread(bundle_affine, repository / "affine" / "2", factor=2.0001)
            async with Callers(one, "affine", values=[[1, 1, 1]]) as callers:
                await rollouts.start("affine", "2", PLAN)
                await until(lambda: phase(rollouts, "affine") == "promoted")
                before = callers.ended["version 2"]
                await until(lambda: callers.ended["version 2"] > before + 50)
            assert set(callers.ended) == {"version 1", "version 2"}
            await rollouts.back("affine")
            assert one.plane.active("affine") == "1"
            await until(lambda: one.states("affine") == {"1": ""})

    live(story)


def test_a_version_whose_answers_differ_is_rolled_back_by_itself_and_nobody_sees_an_error(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    bundle_affine(repository / "affine" / "1", factor=2.0)

    async def story() -> None:
        async with rolling(repository, tmp_path) as (one, rollouts):
            await asyncio.to_thread(bundle_affine, repository / "affine" / "2", factor=2.5)
            async with Callers(one, "affine", values=[[1, 1, 1]]) as callers:
                await rollouts.start("affine", "2", PLAN)
                await until(lambda: phase(rollouts, "affine") == "rolled back")
                await until(lambda: one.states("affine") == {"1": ""})
            assert set(callers.ended) == {"version 1"}  # the shadow saw it before any caller did
            assert "compared answers differ" in reason(rollouts, "affine")

    live(story)


def test_going_back_and_forth_under_load_loses_nothing(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    bundle_affine(repository / "affine" / "1", factor=2.0)
    plan = Plan(shadow=0.0, steps=(0.5,), min_requests=20, step_s=0.0)

    async def story() -> None:
        async with rolling(repository, tmp_path) as (one, rollouts):
            await asyncio.to_thread(bundle_affine, repository / "affine" / "2", factor=2.0)
            async with Callers(one, "affine", values=[[1, 1, 1]]) as callers:
                for _ in range(4):
                    await rollouts.start("affine", "2", plan)
                    await until(lambda: phase(rollouts, "affine") == "canary")
                    before = callers.ended["version 2"]
                    await until(lambda: callers.ended["version 2"] > before)  # noqa: B023 - asked in this turn only
                    await rollouts.back("affine")
                    await until(lambda: one.states("affine") == {"1": ""})
            assert set(callers.ended) == {"version 1", "version 2"}

    live(story)


def test_a_version_whose_worker_crashes_is_rolled_back_at_once(tmp_path: Path, misbehaving_runtime: None) -> None:
    repository = tmp_path / "repository"
    bundle_misbehaving(repository / "misbehaving" / "1")

    async def story() -> None:
        async with rolling(repository, tmp_path) as (one, rollouts):
            await asyncio.to_thread(bundle_misbehaving, repository / "misbehaving" / "2")
            plan = Plan(shadow=0.0, steps=(0.01,), min_requests=100_000)
            async with Callers(one, "misbehaving", order=[[ANSWER, 1]]) as callers:
                await rollouts.start("misbehaving", "2", plan)
                await until(lambda: phase(rollouts, "misbehaving") == "canary")
                await one.ask("misbehaving", "2", order=[[SEGFAULT, 0]])
                await until(lambda: phase(rollouts, "misbehaving") == "rolled back")
                await until(lambda: one.states("misbehaving") == {"1": ""})
            assert "it lost 1 of its workers" in reason(rollouts, "misbehaving")
            assert callers.ended["version 1"] > 0

    live(story)


def test_a_version_that_answers_golden_samples_wrong_never_gets_a_request(
    tmp_path: Path, misbehaving_runtime: None
) -> None:
    repository = tmp_path / "repository"
    bundle_misbehaving(repository / "misbehaving" / "1")
    (tmp_path / "wrong").touch()

    async def story() -> None:
        async with rolling(repository, tmp_path) as (one, rollouts):
            wrong = str(tmp_path / "wrong")
            await asyncio.to_thread(bundle_misbehaving, repository / "misbehaving" / "2", wrong_file=wrong)
            async with Callers(one, "misbehaving", order=[[ANSWER, 1]]) as callers:
                await rollouts.start("misbehaving", "2", PLAN)
                await until(lambda: phase(rollouts, "misbehaving") == "aborted")
            assert "golden" in reason(rollouts, "misbehaving")
            assert set(callers.ended) == {"version 1"}

    live(story)


def test_a_server_that_is_started_again_in_a_rollout_serves_the_old_version_and_goes_on(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    bundle_affine(repository / "affine" / "1", factor=2.0)
    plan = Plan(shadow=0.0, steps=(0.25,), min_requests=50, step_s=0.0, max_p99_ratio=1000.0)

    async def story() -> None:
        async with rolling(repository, tmp_path) as (_, rollouts):
            await asyncio.to_thread(bundle_affine, repository / "affine" / "2", factor=2.0)
            await rollouts.start("affine", "2", plan)
            await until(lambda: phase(rollouts, "affine") == "canary")
        async with rolling(repository, tmp_path) as (one, rollouts):
            assert one.plane.active("affine") == "1"
            async with Callers(one, "affine", values=[[1, 1, 1]]) as callers:
                await until(lambda: phase(rollouts, "affine") == "promoted")
            assert set(callers.ended) <= {"version 1", "version 2"}

    live(story)
