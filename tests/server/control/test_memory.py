import asyncio
import os
from pathlib import Path

from ferryman.core.errors import NotReady
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


def test_two_versions_of_a_model_stay_while_they_are_compared(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for version in ("1", "2"):
        bundle_misbehaving(repository / "m" / version, name="m", releases_gil=version == "1")
    other = bundle_misbehaving(tmp_path / "other", name="other").path

    async def story() -> None:
        async with house([repository, other], max_memory_mb=LIMIT_MB) as one:
            await one.repository.load("m", "1", activate=False)
            await fatten(one, "m")
            await one.first("other", order=[[ANSWER, 1]])
            await until(lambda: "evicted" in str(one.states("other")))
            assert one.states("m") == {"1": "", "2": ""}

    live(story)


def test_a_process_holds_memory_and_one_that_is_gone_holds_none() -> None:
    assert held_bytes(os.getpid()) > 10 * 1024 * 1024
    assert held_bytes(2**22 + 1) == 0
