import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

from ferryman.core.errors import ContractBroken, FerrymanError, NotFound, NotReady
from ferryman.server.control.crew import NoMemory
from ferryman.server.control.state import State
from ferryman.server.data.ask import Reply
from tests.bundle.making import bundle_affine, bundle_table
from tests.server.control.house import House, house, is_running, live, until
from tests.server.misbehaving import ANSWER, SLEEP, bundle_misbehaving

ONES = [[1, 1, 1]]


def shelve(repository: Path, version: str, factor: float, name: str = "affine") -> Path:
    """Put a version that answers 1 with factor + 1 into a repository."""
    return bundle_affine(repository / name / version, factor=factor, name=name).path


def test_the_highest_version_of_a_repository_is_served_and_the_others_are_not_loaded(tmp_path: Path) -> None:
    for version in ("2", "10", "9"):
        shelve(tmp_path / "repository", version, float(version))
    bundle_table(tmp_path / "repository" / "flat")

    async def story() -> None:
        async with house([tmp_path / "repository"]) as one:
            assert await one.first("affine", values=ONES) == 11.0
            assert one.states("affine") == {"10": ""}
            assert len(one.hired) == 2
            assert one.plane.why_not_ready() == ""

    live(story)


def test_a_new_version_takes_over_under_load_and_nothing_is_lost(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shelve(repository, "1", 1.0)

    async def story() -> None:
        async with house([repository]) as one:
            before = one.pids("affine")
            told: list[float] = []

            async def load() -> None:
                while len(told) < 200 or told[-1] != 3.0:
                    replies = await asyncio.gather(*(one.ask("affine", values=ONES) for _ in range(8)))
                    for reply in replies:
                        assert isinstance(reply, Reply), reply
                        assert reply.outputs is not None
                        told.append(float(reply.outputs["sum"][0, 0]))

            asking = asyncio.create_task(load())
            await until(lambda: len(told) > 20)
            await asyncio.to_thread(shelve, repository, "2", 2.0)
            await one.repository.refresh()
            await asking
            assert set(told) == {2.0, 3.0}
            assert told == sorted(told)  # once switched, never back
            await until(lambda: not any(is_running(pid) for pid in before))
            assert one.plane.versions("affine") == ["2"]

    live(story)


def test_a_bundle_that_was_built_again_in_its_place_is_loaded_without_a_gap(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shelve(repository, "1", 1.0)

    async def story() -> None:
        async with house([repository]) as one:
            await asyncio.to_thread(shelve, repository, "1", 5.0)
            assert await one.first("affine", values=ONES) == 2.0
            loading = asyncio.create_task(one.repository.load("affine"))
            while not loading.done():
                assert await one.first("affine", values=ONES) in (2.0, 6.0)
            await loading
            assert await one.first("affine", values=ONES) == 6.0
            assert one.supervisor("affine").generation == 2

    live(story)


@pytest.mark.parametrize("damage", ["model", "contract", "golden", "crash"])
def test_a_broken_new_version_never_replaces_a_good_one(tmp_path: Path, damage: str) -> None:
    repository = tmp_path / "repository"
    shelve(repository, "1", 1.0)
    broken = repository / "affine" / "2"

    def spoil() -> None:
        if damage in ("model", "contract"):
            shelve(repository, "2", 2.0)
            file = next(broken.glob("model*/*" if (broken / "model").is_dir() else "model*"))
            file = file if damage == "model" else broken / "proof.json"
            file.write_bytes(file.read_bytes()[:-1] + b" ")
        else:
            flag = tmp_path / "flag"
            flag.touch()
            wrong, crash = (str(flag), None) if damage == "golden" else (None, str(flag))
            bundle_misbehaving(broken, name="affine", wrong_file=wrong, crash_file=crash)

    async def story() -> None:
        async with house([repository]) as one:
            await asyncio.to_thread(spoil)
            await one.repository.refresh()
            assert await one.first("affine", values=ONES) == 2.0
            assert one.plane.active("affine") == "1"
            assert one.plane.why_not_ready() == ""
            states = one.states("affine")
            assert states["1"] == "" and states["2"]
            tried = len(one.hired)
            await one.repository.refresh()  # the same content is not tried again by itself
            assert len(one.hired) == tried
            with pytest.raises(FerrymanError):
                await one.repository.load("affine", "2")
            assert await one.first("affine", values=ONES) == 2.0

    live(story)


def test_a_version_that_keeps_crashing_does_not_become_the_active_one(tmp_path: Path) -> None:
    repository, flag = tmp_path / "repository", tmp_path / "flag"
    shelve(repository, "1", 1.0)
    bundle_misbehaving(repository / "affine" / "2", name="affine", crash_file=str(flag))

    async def story() -> None:
        async with house([repository]) as one:
            await one.repository.load("affine", "1", activate=False)
            await one.repository.activate("affine", "1")
            flag.touch()
            os.kill(one.supervisor("affine", "2").hands()[0].pid, signal.SIGKILL)
            await until(lambda: bool(one.supervisor("affine", "2").trouble))
            with pytest.raises(NotReady, match="version 2 of model 'affine' "):
                await one.repository.activate("affine", "2", keep_old=False)
            assert one.plane.active("affine") == "1"
            assert await one.first("affine", values=ONES) == 2.0

    live(story)


def test_a_refused_replacement_leaves_the_good_versions_figures_alone(tmp_path: Path) -> None:
    repository, flag = tmp_path / "repository", tmp_path / "flag"
    flag.touch()
    shelve(repository, "1", 1.0)

    async def story() -> None:
        async with house([repository]) as one:
            shown = one.metrics.figures("affine", "1")
            before = shown.live
            assert before is not None and before.golden_ok
            shutil.rmtree(repository / "affine" / "1")
            bundle_misbehaving(repository / "affine" / "1", name="affine", wrong_file=str(flag))
            await one.repository.refresh()
            assert shown.live is before and before.golden_ok
            flag.unlink()
            await one.repository.load("affine")
            assert shown.live is not None
            assert shown.live.digest == one.supervisor("affine").bundle.manifest.digest != before.digest

    live(story)


def test_the_figures_of_a_version_that_never_served_go_with_its_bundle(tmp_path: Path) -> None:
    repository, flag = tmp_path / "repository", tmp_path / "flag"
    flag.touch()
    shelve(repository, "1", 1.0)

    async def story() -> None:
        async with house([repository]) as one:
            bundle_misbehaving(repository / "affine" / "2", name="affine", wrong_file=str(flag))
            await one.repository.refresh()
            shown = one.metrics.find("affine", "2")
            assert shown is not None and shown.live is not None and shown.live.golden_ok is False
            shutil.rmtree(repository / "affine" / "2")
            await one.repository.refresh()
            assert one.metrics.find("affine", "2") is None

    live(story)


def test_closing_lets_another_server_have_the_state(tmp_path: Path) -> None:
    shelve(tmp_path / "repository", "1", 1.0)

    async def story() -> None:
        async with house([tmp_path / "repository"], State(tmp_path / "state")) as one:
            await one.repository.activate("affine", "1")
        after = State(tmp_path / "state")
        await after.put("active/affine", "2")
        after.close()

    live(story)


def test_loads_of_one_model_at_once_start_it_once(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shelve(repository, "1", 1.0)

    async def story() -> None:
        async with house([repository], starts=False) as one:
            await asyncio.gather(*(one.repository.load("affine") for _ in range(5)))
            assert len(one.hired) == 1
            assert await one.first("affine", values=ONES) == 2.0

    live(story)


def test_unloading_ends_a_load_that_is_under_way(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    path = bundle_misbehaving(tmp_path / "slow", name="slow", hang_file=str(flag)).path

    async def story() -> None:
        async with house([path], starts=False) as one:
            loading = asyncio.create_task(one.repository.load("slow"))
            await until(lambda: bool(one.hired) and one.hired[0].pid > 0)
            await one.repository.unload("slow")
            with pytest.raises(NotReady, match="unloaded"):
                await loading
            await until(lambda: not is_running(one.hired[0].pid))
            assert one.plane.versions("slow") == []
            flag.unlink()
            await one.repository.load("slow")
            assert await one.first("slow", order=[[ANSWER, 4]]) == ANSWER + 1

    live(story)


def test_an_unloaded_model_answers_what_was_asked_and_stays_away(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shelve(repository, "1", 1.0)

    async def story() -> None:
        async with house([repository]) as one:
            pids = one.pids("affine")
            asked = [one.ask("affine", values=ONES) for _ in range(20)]
            await one.repository.unload("affine")
            assert all(isinstance(reply, Reply) for reply in await asyncio.gather(*asked))
            assert isinstance(await one.ask("affine", values=ONES), NotFound)
            await one.repository.refresh()
            assert not one.plane.has("affine")
            assert not any(is_running(pid) for pid in pids)
            with pytest.raises(NotFound):
                await one.repository.unload("affine")

    live(story)


def test_the_operators_choice_outlives_the_server_and_a_higher_version(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    choices = NoMemory()
    for version in ("1", "2"):
        shelve(repository, version, float(version))

    async def story() -> None:
        async with house([repository], choices) as one:
            assert await one.first("affine", values=ONES) == 3.0
            await one.repository.activate("affine", "1", keep_old=False)
            assert await one.first("affine", values=ONES) == 2.0
        async with house([repository], choices) as one:
            assert await one.first("affine", values=ONES) == 2.0
            await asyncio.to_thread(shelve, repository, "3", 3.0)
            await one.repository.refresh()
            assert await one.first("affine", values=ONES) == 2.0
            await one.repository.load("affine", "3")
            assert await one.first("affine", values=ONES) == 4.0

    live(story)


def test_two_versions_may_run_beside_each_other(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for version in ("1", "2"):
        shelve(repository, version, float(version))

    async def story() -> None:
        async with house([repository]) as one:
            await one.repository.load("affine", "1", activate=False)
            assert await one.first("affine", values=ONES) == 3.0
            assert await one.first("affine", "1", values=ONES) == 2.0
            assert one.repository.health("affine", "1") is not None
            await one.repository.unload("affine", "1")
            assert isinstance(await one.ask("affine", "1", values=ONES), NotFound)
            assert await one.first("affine", values=ONES) == 3.0

    live(story)


def test_a_watched_repository_serves_what_comes(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()

    async def story() -> None:
        async with house([repository], watch_s=0.05) as one:
            await asyncio.to_thread(shelve, repository, "1", 1.0)
            await until(lambda: one.plane.has("affine") and not one.plane.why_not_ready())
            await asyncio.to_thread(shelve, repository, "2", 2.0)
            await until(lambda: one.plane.active("affine") == "2")
            assert await one.first("affine", values=ONES) == 3.0
            shutil.rmtree(repository)  # as when a disk goes away: what is loaded still answers
            await one.repository.refresh()
            assert await one.first("affine", values=ONES) == 3.0

    live(story)


def test_one_model_that_fails_does_not_keep_the_others_from_starting(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    paths = [
        bundle_misbehaving(tmp_path / "bad", name="bad", wrong_file=str(flag)).path,
        bundle_affine(tmp_path / "affine").path,
    ]

    async def story() -> None:
        async with house(paths) as one:
            assert await one.first("affine", values=ONES) == 3.0
            assert "golden samples wrong" in one.plane.why_not_ready()
            assert isinstance(await one.ask("bad", order=[[0, 0]]), NotReady)

    live(story)


def test_a_bundle_that_breaks_its_contract_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.bundle import making

    whole = making.make_proof

    def broken(name: str, *, seconds: float = 0.0) -> object:
        return whole(name, seconds=seconds).model_copy(update={"holds": False, "verdict": "too slow"})

    monkeypatch.setattr(making, "make_proof", broken)
    path = bundle_affine(tmp_path / "affine").path

    async def story() -> None:
        with pytest.raises(ContractBroken, match="too slow"):
            async with house([path]):
                pass
        async with house([path], allow_broken=True) as one:
            assert await one.first("affine", values=ONES) == 3.0

    live(story)


def test_closing_ends_what_still_drains(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    bundle_misbehaving(repository / "m" / "1", name="m")

    async def story() -> None:
        async with house([repository]) as one:
            long = one.ask("m", order=[[SLEEP, 20]])
            await asyncio.to_thread(lambda: bundle_misbehaving(repository / "m" / "2", name="m", releases_gil=True))
            await one.repository.refresh()
            assert one.plane.versions("m") == ["2"]
            assert not long.done()
        assert isinstance(await long, NotReady)
        assert not any(is_running(worker.pid) for worker in one.hired)

    live(story)


def test_closing_right_after_a_switch_ends_the_old_version_too(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for version in ("1", "2"):
        shelve(repository, version, float(version))

    async def story() -> None:
        async with house([repository]) as one:
            old = one.pids("affine")
            await one.repository.activate("affine", "1", keep_old=False)
            await one.repository.close()
            assert not any(is_running(pid) for pid in [*old, *(worker.pid for worker in one.hired)])

    live(story)


def test_closing_leaves_no_process_behind(tmp_path: Path) -> None:
    path = bundle_affine(tmp_path / "affine").path
    kept: list[House] = []

    async def story() -> None:
        async with house([path], processes=2) as one:
            kept.append(one)
            assert len(one.pids("affine")) == 2
        assert not any(is_running(worker.pid) for worker in one.hired if worker.pid)

    live(story)
