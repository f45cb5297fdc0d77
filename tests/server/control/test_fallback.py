import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ferryman.core.errors import FerrymanError, NotFound
from ferryman.server.control.crew import NoMemory
from ferryman.server.control.extension import Extension
from tests.bundle.making import bundle_affine
from tests.server.control.house import house, live, until
from tests.server.control.test_repository import ONES, shelve
from tests.server.misbehaving import bundle_misbehaving

DAMAGES = ["manifest", "model", "golden", "folder", "half"]


def model_file(folder: Path) -> Path:
    return next(file for file in folder.rglob("*") if file.is_file() and "model" in str(file.relative_to(folder)))


def cut_short(folder: Path) -> Callable[[], object]:
    """Leave a model as a copy that isn't done does; gives what does the rest."""
    model = model_file(folder)
    whole = model.read_bytes()
    model.write_bytes(whole[:-9])
    return lambda: model.write_bytes(whole)


def spoil(repository: Path, version: str, damage: str, flag: Path) -> None:
    """Put a version into a repository that can't be served."""
    folder = repository / "affine" / version
    if damage == "golden":
        flag.touch()
        bundle_misbehaving(folder, name="affine", wrong_file=str(flag))
    elif damage == "folder":
        bundle_affine(folder, factor=9.0, name="another")
    elif damage == "half":
        folder.mkdir(parents=True)
        (folder / "artifact.json").write_bytes(b"{")
    else:
        shelve(repository, version, 9.0)
        file = folder / "bundle.json" if damage == "manifest" else model_file(folder)
        file.write_bytes(file.read_bytes()[:-9])


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_start_with_a_broken_newest_version_serves_the_highest_good_one(tmp_path: Path, damage: str) -> None:
    repository = tmp_path / "repository"
    for version in ("1", "2"):
        shelve(repository, version, float(version))
    spoil(repository, "3", damage, tmp_path / "flag")

    async def story() -> None:
        async with house([repository]) as one:
            assert await one.first("affine", values=ONES) == 3.0
            assert one.plane.active("affine") == "2"
            assert one.plane.why_not_ready() == ""
            row = next(row for row in one.repository.index() if row["version"] == "3")
            assert row["state"] == "UNAVAILABLE" and row["reason"] and str(tmp_path) not in row["reason"]
            assert one.plane.serving("affine") == ["2"]
            hired = len(one.hired)
            await one.repository.refresh()  # what can't be served is not tried again as it is
            assert len(one.hired) == hired
            with pytest.raises(FerrymanError):
                await one.repository.load("affine")
            assert await one.first("affine", values=ONES) == 3.0

    live(story)


def test_a_version_that_was_mended_in_place_takes_over(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shelve(repository, "1", 1.0)
    shelve(repository, "3", 3.0)
    mend = cut_short(repository / "affine" / "3")

    async def story() -> None:
        async with house([repository]) as one:
            assert await one.first("affine", values=ONES) == 2.0
            mend()
            await one.repository.refresh()
            assert await one.first("affine", values=ONES) == 4.0

    live(story)


def test_the_operators_broken_choice_is_stood_in_for_and_stays_the_choice(tmp_path: Path) -> None:
    repository, choices = tmp_path / "repository", NoMemory()
    for version in ("1", "2", "3"):
        shelve(repository, version, float(version))

    async def story() -> None:
        async with house([repository], choices) as one:
            await one.repository.activate("affine", "2", keep_old=False)
        mend = cut_short(repository / "affine" / "2")
        async with house([repository], choices) as one:
            assert await one.first("affine", values=ONES) == 4.0
            mend()
            await one.repository.refresh()
            assert await one.first("affine", values=ONES) == 3.0

    live(story)


def test_a_running_version_whose_files_went_bad_gives_way_to_a_good_one(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for version in ("1", "2"):
        shelve(repository, version, float(version))

    async def story() -> None:
        async with house([repository]) as one:
            assert await one.first("affine", values=ONES) == 3.0
            model_file(repository / "affine" / "2").write_bytes(b"")
            os.kill(one.pids("affine")[0], signal.SIGKILL)
            await until(lambda: one.plane.active("affine") == "1" and not one.plane.why_not_ready())
            assert await one.first("affine", values=ONES) == 2.0
            row = next(row for row in one.repository.index() if row["version"] == "2")
            assert "can't be served: model" in row["reason"]

    live(story)


def test_without_a_good_version_the_model_is_unready_and_says_why(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    spoil(repository, "1", "model", tmp_path / "flag")
    spoil(repository, "2", "manifest", tmp_path / "flag")

    async def story() -> None:
        async with house([repository]) as one:
            assert "can't be served" in one.plane.why_not_ready()
            await asyncio.to_thread(shelve, repository, "3", 3.0)
            await one.repository.refresh()
            assert one.plane.why_not_ready() == ""
            assert await one.first("affine", values=ONES) == 4.0
            shutil.rmtree(repository / "affine" / "2")
            await one.repository.refresh()
            assert {row["version"] for row in one.repository.index()} == {"1", "3"}

    live(story)


def test_a_broken_model_that_comes_later_does_not_make_the_server_unready(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shelve(repository, "1", 1.0)

    async def story() -> None:
        async with house([repository]) as one:
            bundle_affine(repository / "other" / "1", name="another")
            await one.repository.refresh()
            assert one.plane.why_not_ready() == ""
            assert any(row["name"] == "other" and row["reason"] for row in one.repository.index())
            shutil.rmtree(repository / "other" / "1")
            await asyncio.to_thread(shelve, repository, "1", 2.0, "other")
            await one.repository.refresh()
            assert await one.first("other", values=ONES) == 3.0
        bundle_affine(repository / "third" / "1", name="another")
        async with house([repository]) as one:
            assert one.plane.why_not_ready().startswith("model 'third' can't be served: it is a bundle of model 'ano")

    live(story)


def test_a_version_is_served_beside_the_active_one_until_it_is_unloaded(tmp_path: Path) -> None:
    repository, choices = tmp_path / "repository", NoMemory()
    for version in ("1", "2"):
        shelve(repository, version, float(version))

    async def story() -> None:
        async with house([repository], choices) as one:
            await Extension(one.repository).load("affine", {"version": "1", "activate": False})
            assert sorted(one.plane.serving("affine")) == ["1", "2"]
        async with house([repository], choices) as one:
            assert await one.first("affine", "1", values=ONES) == 2.0
            await asyncio.to_thread(shelve, repository, "3", 3.0)
            await one.repository.refresh()
            assert await one.first("affine", values=ONES) == 4.0
            assert sorted(one.plane.serving("affine")) == ["1", "3"]
            await one.repository.unload("affine", "1")
        async with house([repository], choices) as one:
            assert one.plane.serving("affine") == ["3"]
            refused = await one.ask("affine", "1", values=ONES)
            assert isinstance(refused, NotFound) and str(refused) == "model 'affine' does not serve a version '1'"

    live(story)


@pytest.mark.parametrize(
    "parameters", [{"activate": False}, {"activate": "no"}, {"version": 1}, {"config": "{}"}, {"file:1/m": b""}]
)
def test_load_parameters_that_make_no_sense_are_refused(tmp_path: Path, parameters: dict[str, object]) -> None:
    shelve(tmp_path, "1", 1.0)

    async def story() -> None:
        async with house([tmp_path]) as one:
            with pytest.raises(FerrymanError, match="parameter"):
                await Extension(one.repository).load("affine", parameters)

    live(story)


def test_what_runs_beside_is_never_the_active_one_after_a_restart(tmp_path: Path) -> None:
    repository, choices = tmp_path / "repository", NoMemory()
    shelve(repository, "1", 1.0)

    async def story() -> None:
        async with house([repository], choices) as one:
            await asyncio.to_thread(shelve, repository, "2", 2.0)
            loading = asyncio.create_task(one.repository.load_beside("affine", "2"))
            await until(lambda: bool(one.repository.lines["affine"].loads))
            await one.repository.refresh()
            await loading
            assert await one.first("affine", values=ONES) == 2.0
        async with house([repository], choices) as one:
            assert await one.first("affine", values=ONES) == 2.0
            assert await one.first("affine", "2", values=ONES) == 3.0

    live(story)


def test_an_unloaded_version_stays_away_until_it_is_loaded(tmp_path: Path) -> None:
    repository, choices = tmp_path / "repository", NoMemory()
    for version in ("1", "2"):
        shelve(repository, version, float(version))

    async def story() -> None:
        async with house([repository], choices) as one:
            await one.repository.load_beside("affine", "1")
            await one.repository.activate("affine", "2")
            await one.repository.unload("affine", "2")
            await one.repository.refresh()
            assert await one.first("affine", values=ONES) == 2.0
            assert choices.get("active/affine") is None
            await one.repository.unload("affine", "1")
            await one.repository.refresh()
            assert not one.plane.has("affine")
            await one.repository.load("affine", "2")
            assert await one.first("affine", values=ONES) == 3.0

    live(story)


def test_unloading_what_loads_keeps_it_away(tmp_path: Path) -> None:
    repository, flag = tmp_path / "repository", tmp_path / "flag"
    bundle_misbehaving(repository / "m" / "1", name="m", hang_file=str(flag))

    async def story() -> None:
        async with house([repository], starts=False) as one:
            flag.touch()
            one.repository.scan()
            loading = asyncio.create_task(one.repository.load("m", "1"))
            await until(lambda: bool(one.hired))
            await one.repository.unload("m", "1")
            with pytest.raises(FerrymanError, match="was unloaded before"):
                await loading
            flag.unlink()
            await one.repository.refresh()
            assert not one.plane.has("m") and not one.repository.lines["m"].running

    live(story)


def test_a_look_while_a_candidate_loads_switches_nothing(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shelve(repository, "1", 1.0)

    async def story() -> None:
        async with house([repository]) as one:
            await asyncio.to_thread(shelve, repository, "2", 2.0)
            loading = asyncio.create_task(one.repository.load("affine", "2", activate=False))
            await until(lambda: bool(one.repository.lines["affine"].loads))
            await asyncio.to_thread(shelve, repository, "3", 3.0)
            await one.repository.refresh()
            await loading
            assert sorted(one.repository.lines["affine"].running) == ["1", "2"]
            assert await one.first("affine", values=ONES) == 2.0

    live(story)


def test_a_model_that_could_not_be_loaded_can_be_unloaded_and_the_server_is_ready(tmp_path: Path) -> None:
    repository, flag = tmp_path / "repository", tmp_path / "flag"
    flag.touch()
    shelve(repository, "1", 1.0)
    bundle_misbehaving(repository / "bad" / "1", name="bad", wrong_file=str(flag))

    async def story() -> None:
        async with house([repository]) as one:
            assert one.plane.why_not_ready()
            await one.repository.unload("bad")
            assert one.plane.why_not_ready() == ""

    live(story)


def test_a_model_that_crashed_at_its_load_is_tried_again(tmp_path: Path) -> None:
    repository, flag = tmp_path / "repository", tmp_path / "flag"
    flag.touch()
    bundle_misbehaving(repository / "m" / "1", name="m", crash_file=str(flag))

    async def story() -> None:
        async with house([repository]) as one:
            assert "can't be served" in one.plane.why_not_ready()
            flag.unlink()
            await until(lambda: not one.plane.why_not_ready())
            assert one.repository.lines["m"].running

    live(story)
