"""What answers when an engine of this device is lost, and what ends with a model, a build and a server."""

from pathlib import Path

import pytest

from ferryman.core.errors import FerrymanError
from tests.bundle.making import bundle_affine
from tests.server.control.house import house, live, until
from tests.server.device import Misbuilding
from tests.server.device.serving import gone, is_alive, is_up, repository_of, served, settled


def test_an_engine_that_dies_of_a_request_comes_back_from_the_cache(tmp_path: Path, misbuilding: Misbuilding) -> None:
    path = bundle_affine(tmp_path / "affine").path

    async def story() -> None:
        async with served(path) as here:
            await settled(here, "serving")
            assert isinstance(await here.ask("affine", values=[[13, 2, 3]]), FerrymanError)
            await until(lambda: bool(here.pids("affine")))
            assert await here.first("affine", values=[[1, 2, 3]]) == 3
            assert here.supervisor("affine").engine is not None
        assert len(misbuilding.builds) == 1

    live(story)


def test_an_engine_that_fails_from_now_on_is_loaded_anew(tmp_path: Path, misbuilding: Misbuilding) -> None:
    path = bundle_affine(tmp_path / "affine").path

    async def story() -> None:
        async with served(path, probe_s=0.0) as here:
            await settled(here, "serving")
            stuck = here.pids("affine")
            assert "failed with RuntimeError" in str(await here.ask("affine", values=[[14, 2, 3]]))
            await until(lambda: here.pids("affine") not in ([], stuck))
            assert await here.first("affine", values=[[1, 2, 3]]) == 3
            assert here.supervisor("affine").engine is not None

    live(story)


@pytest.mark.parametrize("loss", ["its device has gone", "it answers wrong now"])
def test_the_bundles_engine_comes_back_where_the_devices_own_is_lost(
    loss: str, tmp_path: Path, misbuilding: Misbuilding
) -> None:
    two_versions(tmp_path)

    async def story() -> None:
        async with repository_of(tmp_path, probe_s=0.05) as here:
            await settled(here, "serving")
            lost = here.supervisor("affine")
            if loss == "its device has gone":
                misbuilding.tell(no_device=True)
                here.hired[-1].kill()
            else:
                misbuilding.tell(off_by=0.5)
            await until(lambda: bool(lost.trouble))
            await here.repository.refresh()
            await until(lambda: "refused: it was lost" in here.plane.known("affine").device if is_up(here) else False)
            assert here.supervisor("affine").engine is None
            assert here.plane.active("affine") == "2" and not here.repository.lines["affine"].failures
            assert await here.first("affine", values=[[1, 2, 3]]) == 4, "an older version took its place"
        assert len(misbuilding.builds) == 1, "what was lost was built again"

    live(story)


def test_an_older_version_serves_where_neither_the_engine_nor_the_bundles_own_can(
    tmp_path: Path, misbuilding: Misbuilding
) -> None:
    two_versions(tmp_path)

    async def story() -> None:
        async with repository_of(tmp_path) as here:
            await settled(here, "serving")
            for file in (tmp_path / "repository" / "affine" / "2").rglob("*.onnx"):
                file.write_bytes(b"broken")
            misbuilding.tell(no_device=True)
            here.hired[-1].kill()
            await until(lambda: here.plane.active("affine") == "1" and is_up(here))
            assert await here.first("affine", values=[[1, 2, 3]]) == 3

    live(story)


def two_versions(folder: Path) -> None:
    for version, factor in (("1", 2.0), ("2", 3.0)):
        bundle_affine(folder / "repository" / "affine" / version, factor=factor)


def test_a_build_ends_with_the_content_and_the_model_that_it_is_for(tmp_path: Path, misbuilding: Misbuilding) -> None:
    misbuilding.tell(build="hang")
    bundle_affine(tmp_path / "repository" / "affine" / "1", factor=2.0)

    async def story() -> None:
        async with repository_of(tmp_path) as here:
            await until(lambda: len(misbuilding.builds) == 1)
            other = bundle_affine(tmp_path / "other", factor=3.0).path
            (tmp_path / "repository" / "affine" / "1").rename(tmp_path / "gone")
            other.rename(tmp_path / "repository" / "affine" / "1")
            await here.repository.load("affine")
            assert await here.first("affine", values=[[1, 2, 3]]) == 4
            await until(lambda: len(misbuilding.builds) == 2)
            await here.repository.unload("affine")
            for pid, _ in misbuilding.builds:
                await gone(pid)
            misbuilding.tell()
            await here.repository.load("affine")
            await settled(here, "serving")
            assert await here.first("affine", values=[[1, 2, 3]]) == 4

    live(story)


def test_what_serves_keeps_its_figures_until_the_engine_answers_and_the_end_leaves_no_engine(
    tmp_path: Path, misbuilding: Misbuilding
) -> None:
    misbuilding.tell(build="wait")
    path = bundle_affine(tmp_path / "affine").path

    async def story() -> None:
        async with served(path) as here:
            shown = here.metrics.figures("affine", here.supervisor("affine").version)
            before = shown.live
            lock = here.repository.lines["affine"].lock
            async with lock:  # as a load of another version has it
                misbuilding.tell()
                await until(lambda: bool(lock._waiters))
                assert before is not None and shown.live is before
                await here.repository.close()
                assert len(here.hired) == 3, "the bundle's own, a builder, and the engine's"
                assert not any(is_alive(worker.pid) for worker in here.hired)

    live(story)


def test_no_model_makes_room_for_an_engine(tmp_path: Path, misbuilding: Misbuilding) -> None:
    misbuilding.tell(build="wait")
    paths = [bundle_affine(tmp_path / name, name=name).path for name in ("affine", "idle")]

    async def story() -> None:
        async with house(
            paths, device_engine="misbuilding", engines=tmp_path / "engines", max_memory_mb=4000, check_s=60.0
        ) as here:
            ceiling = here.repository._opener.ceiling
            assert ceiling is not None
            await until(lambda: bool(misbuilding.builds))
            held = await ceiling._weigh([here.supervisor("affine"), here.supervisor("idle")])
            ceiling._limit_bytes = sum(held.values())
            misbuilding.tell()
            for name in ("affine", "idle"):
                await until(lambda: "refused: it needs about" in here.plane.known(name).device)  # noqa: B023
                assert list(here.states(name).values()) == [""], "it was evicted"

    live(story)
