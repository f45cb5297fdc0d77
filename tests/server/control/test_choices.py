import asyncio
import shutil
from pathlib import Path

import pytest

from ferryman.core.errors import BundleError, FerrymanError
from ferryman.server.control.crew import NoMemory
from ferryman.server.control.extension import Extension
from ferryman.server.control.state import State, StateNotWritten
from tests.server.control.house import house, live
from tests.server.control.test_admin import call
from tests.server.control.test_repository import ONES, shelve


def test_a_chosen_version_that_is_gone_is_forgotten_once_another_serves(tmp_path: Path) -> None:
    repository, choices = tmp_path / "repository", NoMemory()
    for version in ("1", "2", "3"):
        shelve(repository, version, float(version))

    async def story() -> None:
        async with house([repository], choices) as one:
            await one.repository.activate("affine", "2", keep_old=False)
            shutil.rmtree(repository / "affine" / "2")
            await one.repository.refresh()
            assert await one.first("affine", values=ONES) == 4.0
            await asyncio.to_thread(shelve, repository, "2", 9.0)
            await one.repository.refresh()
            assert await one.first("affine", values=ONES) == 4.0
            assert one.repository.chosen("affine") is None

    live(story)


def test_loading_the_highest_version_by_its_number_lets_newer_ones_take_over(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shelve(repository, "1", 1.0)

    async def story() -> None:
        async with house([repository]) as one:
            await one.repository.load("affine", "1")
            await asyncio.to_thread(shelve, repository, "2", 2.0)
            await one.repository.refresh()
            assert await one.first("affine", values=ONES) == 3.0
            await one.repository.load("affine", "1")
            await one.repository.refresh()
            assert await one.first("affine", values=ONES) == 2.0
            assert one.repository.chosen("affine") == "1"

    live(story)


def test_a_choice_is_shown_told_of_and_taken_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    repository = tmp_path / "repository"
    shelve(repository, "1", 1.0)

    async def story() -> None:
        async with house([repository]) as one:
            path = "/admin/models/{model}/activate"
            assert await call(one, "POST", path, {"version": "1"}) == (
                200, {"model": "affine", "version": "1", "chosen": "1"},
            )  # fmt: skip
            await asyncio.to_thread(shelve, repository, "2", 2.0)
            await one.repository.refresh()
            assert "version 2 is there, but 1 was chosen" in caplog.text
            assert await one.first("affine", values=ONES) == 2.0
            _, status = await call(one, "GET", "/admin/status")
            assert status["models"]["affine"]["chosen"] == "1"
            assert (await call(one, "POST", path, {"version": None}))[1]["version"] == "2"
            assert await one.first("affine", values=ONES) == 3.0
            status, told = await call(one, "POST", path, {})
            assert (status, "'version' is missing" in told["error"]) == (400, True)

    live(story)


def test_a_load_of_what_serves_checks_its_files(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shelve(repository, "1", 1.0)

    async def story() -> None:
        async with house([repository]) as one:
            await one.repository.load("affine", "1")
            file = repository / "affine" / "1" / "model" / "affine.onnx"
            file.write_bytes(file.read_bytes()[:-1])
            with pytest.raises(BundleError, match="was changed"):
                await one.repository.load("affine", "1")
            assert await one.first("affine", values=ONES) == 2.0

    live(story)


def test_a_choice_that_cannot_be_kept_leaves_all_as_it_was(tmp_path: Path) -> None:
    repository, folder = tmp_path / "repository", tmp_path / "state"
    for version in ("1", "2"):
        shelve(repository, version, float(version))
    (folder / ".state.json.new").mkdir(parents=True)  # stands for whatever is in the way

    async def story() -> None:
        async with house([repository], State(folder)) as one:
            with pytest.raises(StateNotWritten):
                await one.repository.activate("affine", "1")
            with pytest.raises(StateNotWritten):
                await Extension(one.repository).load("affine", {"version": "1", "activate": False})
            assert one.plane.serving("affine") == ["2"]
            assert await one.first("affine", values=ONES) == 3.0

    live(story)


def test_why_a_version_failed_is_forgotten_with_its_files(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for version in ("1", "2"):
        shelve(repository, version, float(version))
    file = repository / "affine" / "2" / "model" / "affine.onnx"
    whole = file.read_bytes()
    file.write_bytes(b"")

    async def story() -> None:
        async with house([repository]) as one:
            await one.repository.activate("affine", "1")
            with pytest.raises(FerrymanError):
                await one.repository.load("affine", "2")
            file.write_bytes(whole)
            await one.repository.refresh()
            (row,) = [row for row in one.repository.index() if row["version"] == "2"]
            assert row["reason"] == "is not loaded"

    live(story)


def test_one_model_that_answers_is_enough_where_that_was_asked_for(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shelve(repository, "1", 1.0)
    (repository / "broken" / "1").mkdir(parents=True)
    (repository / "broken" / "1" / "proof.json").write_text("{}")

    async def story() -> None:
        async with house([repository]) as one:
            assert "'broken'" in one.plane.why_not_ready()
            one.plane.is_ready_with_any = True
            assert one.plane.why_not_ready() == ""
            await one.repository.unload("affine")
            assert "'broken'" in one.plane.why_not_ready()

    live(story)
