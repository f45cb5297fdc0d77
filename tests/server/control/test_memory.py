import asyncio
import os
from pathlib import Path

import pytest

from ferryman.core.errors import NotFound, NotReady
from ferryman.server.control.memory import held_bytes
from ferryman.server.data.ask import Reply
from tests.server.control.house import House, house, is_running, live, until
from tests.server.misbehaving import ANSWER, LEAK, SLEEP, bundle_misbehaving

LIMIT_MB = 200


def two(folder: Path) -> list[Path]:
    """Write two bundles that differ in nothing but their names."""
    return [bundle_misbehaving(folder / name, name=name).path for name in ("old", "new")]


async def fatten(one: House, model: str) -> None:
    """Have a model hold more than the ceiling by itself, and less than a worker may grow."""
    await one.ask(model, order=[[LEAK, LIMIT_MB + 10]])


def test_who_was_idle_for_longest_makes_room_and_the_next_request_brings_it_back(tmp_path: Path) -> None:
    paths = two(tmp_path)

    async def story() -> None:
        async with house(paths, max_memory_mb=LIMIT_MB) as one:
            pids = one.pids("old")
            await fatten(one, "old")
            await one.first("new", order=[[ANSWER, 1]])
            await until(lambda: "evicted" in str(one.states("old")))
            assert one.plane.why_not_ready() == ""  # it would answer
            assert one.pids("new")
            await until(lambda: not is_running(pids[0]))
            asked = await asyncio.gather(*(one.ask("old", order=[[ANSWER, 1]]) for _ in range(10)))
            assert all(isinstance(reply, Reply) for reply in asked)
            assert one.pids("old") not in ([], pids)

    live(story)


def test_a_busy_model_is_never_evicted(tmp_path: Path) -> None:
    paths = two(tmp_path)

    async def story() -> None:
        async with house(paths, max_memory_mb=LIMIT_MB) as one:
            pids = one.pids("old")
            await fatten(one, "old")
            long = one.ask("old", order=[[SLEEP, 1.5]])
            await until(lambda: "evicted" in str(one.states("new")))  # all that could go has gone
            assert not long.done()
            assert one.pids("old") == pids
            assert isinstance(await one.ask("new", order=[[ANSWER, 1]]), NotReady)  # no room while the other works
            assert isinstance(await long, Reply)
            await until(lambda: "evicted" in str(one.states("old")))
            assert isinstance(await one.ask("new", order=[[ANSWER, 1]]), Reply)

    live(story)


def test_two_versions_of_a_model_stay_while_they_are_compared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    repository = tmp_path / "repository"
    for version in ("1", "2"):
        bundle_misbehaving(repository / "m" / version, name="m", releases_gil=version == "1")
    other = bundle_misbehaving(tmp_path / "other", name="other").path

    async def story() -> None:
        async with house([repository, other], max_memory_mb=LIMIT_MB) as one:
            await one.repository.load("m", "1", activate=False)
            await fatten(one, "m")
            await until(lambda: "evicted" in str(one.states("other")))
            assert one.states("m") == {"1": "", "2": ""}
            await until(lambda: "none may leave: each is at work, or loaded in two versions" in caplog.text)

    live(story)


def test_a_model_that_never_fits_is_refused_and_the_others_serve(tmp_path: Path) -> None:
    small, large = two(tmp_path)
    hungry = bundle_misbehaving(tmp_path / "hungry", name="hungry", ballast_mb=150).path

    async def story() -> None:
        async with house([small, large, hungry], max_memory_mb=120) as one:
            assert "by itself, and all models together may have 120" in one.plane.why_not_ready()
            assert await one.first("old", order=[[ANSWER, 1]])

    live(story)


def test_a_wake_that_fails_once_is_tried_again_by_the_next_request(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    old = bundle_misbehaving(tmp_path / "old", name="old", crash_file=str(flag)).path
    new = bundle_misbehaving(tmp_path / "new", name="new").path

    async def story() -> None:
        async with house([old, new], max_memory_mb=LIMIT_MB) as one:
            await fatten(one, "old")
            await one.first("new", order=[[ANSWER, 1]])
            await until(lambda: "evicted" in str(one.states("old")))
            flag.touch()
            assert isinstance(await one.ask("old", order=[[ANSWER, 1]]), NotReady)
            flag.unlink()
            assert isinstance(await one.ask("old", order=[[ANSWER, 1]]), Reply)

    live(story)


def test_who_waits_for_an_evicted_version_is_told_when_it_is_unloaded(tmp_path: Path) -> None:
    flag, repository = tmp_path / "flag", tmp_path / "repository"
    bundle_misbehaving(repository / "m" / "1", name="m", hang_file=str(flag))
    bundle_misbehaving(repository / "m" / "2", name="m", releases_gil=True)

    async def story() -> None:
        async with house([repository], max_memory_mb=LIMIT_MB) as one:
            await one.repository.load_beside("m", "1")
            line = one.repository.lines["m"]
            leaving = line.running.pop("1")
            line.evicted["1"] = leaving.served
            one.plane.evict("m", "1")
            await leaving.stop(drain_s=0)
            flag.touch()
            waiting = one.ask("m", "1", order=[[ANSWER, 1]])
            await until(lambda: bool(line.loads))
            await one.repository.unload("m", "1")
            assert isinstance(await asyncio.wait_for(waiting, 5), NotFound)

    live(story)


def test_a_process_holds_memory_and_one_that_is_gone_holds_none() -> None:
    assert held_bytes(os.getpid()) > 10 * 1024 * 1024
    assert held_bytes(2**22 + 1) == 0
