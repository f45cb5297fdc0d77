"""What serves until an engine is built on the device, when that takes its place, and when it never does."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from ferryman.bundle.read import load_bundle
from ferryman.bundle.write import write_bundle
from ferryman.core.errors import ConfigError, FerrymanError, MissingExtra
from ferryman.core.plugins import plugins
from ferryman.server.data.ask import Reply
from tests.bundle.making import bundle_affine
from tests.server.control.house import House, house, live, until
from tests.server.device import Misbuilding
from tests.server.device.serving import again, gone, kept, left_behind, served, settled, words


def can_build(engine: str) -> bool:
    try:
        plugins("runtimes")[engine].require()().identity()
    except MissingExtra:
        return False
    return True


ENGINES = [
    pytest.param(name, marks=pytest.mark.skipif(not can_build(name), reason=f"NOT TESTED: {name} can't be built here"))
    for name in ("openvino", "tensorrt")
]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_bundles_engine_answers_at_once_and_the_devices_own_takes_over(engine: str, tmp_path: Path) -> None:
    path = bundle_affine(tmp_path / "affine").path

    async def story() -> None:
        async with served(path, engine) as here:
            assert here.supervisor("affine").engine is None  # ready before anything was built
            assert await here.first("affine", values=[[1, 2, 3]]) == 3
            before = here.pids("affine")
            await settled(here, "serving")
            assert here.plane.find("affine").loaded.engine == engine
            assert await here.first("affine", values=[[1, 2, 3]]) == 3
            reply = await here.ask("affine", values=[[1, 2, 3]] * 5)
            assert isinstance(reply, Reply) and reply.outputs is not None
            assert np.array_equal(reply.outputs["sum"], [[3, 5, 7]] * 5), "any batch, as before"
            assert set(here.pids("affine")).isdisjoint(before)
            assert here.supervisor("affine").golden_ok
        [entry] = kept(path)
        assert entry.name.startswith(f"{engine}-") and any((entry / "engine").iterdir())

    live(story)


@pytest.mark.skipif(not can_build("openvino"), reason="NOT TESTED: openvino is not installed")
def test_a_later_load_takes_what_was_kept_and_a_damaged_one_is_built_anew(tmp_path: Path) -> None:
    path = bundle_affine(tmp_path / "affine").path

    async def story() -> None:
        async with served(path, "openvino") as here:
            await settled(here, "serving")
            [entry] = kept(path)
            blob = entry / "engine" / "model.blob"
            made = blob.stat()
            await again(here, "serving")
            assert (blob.stat().st_ino, blob.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
            whole = blob.read_bytes()
            blob.write_bytes(whole[: len(whole) // 2])
            await again(here, "serving")
            assert blob.read_bytes() == whole
            assert await here.first("affine", values=[[1, 2, 3]]) == 3

    live(story)


def test_no_request_fails_while_the_engine_is_built_and_takes_over(tmp_path: Path, misbuilding: Misbuilding) -> None:
    misbuilding.tell(build="wait", off_by=0.0)
    path = bundle_affine(tmp_path / "affine").path

    async def story() -> None:
        async with served(path) as here:
            await until(lambda: bool(misbuilding.builds))
            assert "building" in words(here)

            async def ask_on() -> None:
                asked = 100
                while here.supervisor("affine").engine is None or asked < 150:
                    assert await here.first("affine", values=[[asked, 2, 3]]) == 2 * asked + 1
                    asked += 1

            asking = [asyncio.create_task(ask_on()) for _ in range(4)]
            misbuilding.tell(build="")
            await asyncio.gather(*asking)
            await settled(here, "serving")
        [(_, niceness)] = misbuilding.builds
        assert niceness == 19, "it takes the cores of those who answer"

    live(story)


STAYS: dict[str, tuple[dict[str, object], str]] = {
    "wrong answers": ({"off_by": 0.5}, "answers 1 of 1 golden samples wrong"),
    "a build that crashes": ({"build": "crash"}, "SIGSEGV"),
    "a build that hangs": ({"build": "hang"}, "was not built within 1 s (allow more: --engine-build-s)"),
    "a build that fails": ({"build": "fail"}, "told to fail (tell it otherwise)"),
    "a build that fails by surprise": ({"build": "surprise"}, "RuntimeError"),
    "no space": ({"build": "full"}, "no space is left"),
    "an engine that crashes as it is loaded": ({"load": "crash"}, "SIGSEGV"),
    "no device": ({"no_device": True}, "there is no misbuilding device (plug one in)"),
}
LEFT_BEHIND = ("a build that crashes", "a build that hangs")  # killed as it stood: the next build clears it away


def test_the_bundles_engine_stays_whatever_a_build_does(tmp_path: Path, misbuilding: Misbuilding) -> None:
    path = bundle_affine(tmp_path / "affine").path

    async def stays(here: House, case: str) -> None:
        deeds, said = STAYS[case]
        before = len(kept(path))
        misbuilding.tell(device=case, **deeds)
        await again(here, "refused")
        assert said in words(here)
        assert here.supervisor("affine").engine is None and here.supervisor("affine").golden_ok
        assert await here.first("affine", values=[[1, 2, 3]]) == 3
        assert here.repository.device_engines() == {
            ("affine", here.plane.active("affine"), "misbuilding", "refused"): 0
        }
        await gone(here.hired[-1].pid)
        is_wrong_only = "off_by" in deeds or "load" in deeds
        assert len(kept(path)) - before == (1 if is_wrong_only else 0), f"half an engine was kept after {case}"
        assert case in LEFT_BEHIND or not left_behind(path), case

    async def story() -> None:
        misbuilding.tell(no_device=True)
        async with served(path) as here:
            for case in (case for case in STAYS if case != "a build that hangs"):
                await stays(here, case)
        async with served(path, engine_build_s=1.0) as here:
            await stays(here, "a build that hangs")

    live(story)


def test_the_next_build_clears_away_what_a_killed_one_left(tmp_path: Path, misbuilding: Misbuilding) -> None:
    path = bundle_affine(tmp_path / "affine").path

    async def story() -> None:
        misbuilding.tell(build="crash")
        async with served(path) as here:
            await settled(here, "refused")
            assert left_behind(path)
            misbuilding.tell()
            await again(here, "serving")
            assert not left_behind(path)
        assert len(misbuilding.builds) == 2

    live(story)


def test_another_device_has_an_engine_of_its_own(tmp_path: Path, misbuilding: Misbuilding) -> None:
    path = bundle_affine(tmp_path / "affine").path

    async def story() -> None:
        async with served(path) as here:
            await settled(here, "serving")
            misbuilding.tell(device="second")
            await again(here, "serving")

    live(story)
    assert len(misbuilding.builds) == len(kept(path)) == 2


def test_two_servers_build_one_engine(tmp_path: Path, misbuilding: Misbuilding) -> None:
    misbuilding.tell(build="wait")
    path = bundle_affine(tmp_path / "affine").path

    async def story() -> None:
        async with served(path) as one, served(path) as other:
            await until(lambda: bool(misbuilding.builds) and all("building" in words(here) for here in (one, other)))
            misbuilding.tell()
            await settled(one, "serving")
            await settled(other, "serving")

    live(story)
    assert len(misbuilding.builds) == 1


def test_auto_takes_an_accelerator_and_says_little_where_there_is_none(
    tmp_path: Path, misbuilding: Misbuilding
) -> None:
    path = bundle_affine(tmp_path / "affine").path

    async def story() -> None:
        misbuilding.tell(no_device=True)
        async with served(path, "auto") as here:
            await settled(here, "unavailable")
            misbuilding.tell()
            await again(here, "serving")

    live(story)


def test_nothing_is_built_unless_it_is_asked_for(tmp_path: Path, misbuilding: Misbuilding) -> None:
    path = bundle_affine(tmp_path / "affine").path

    async def story() -> None:
        async with house([path], engines=tmp_path / "engines") as here:
            assert await here.first("affine", values=[[1, 2, 3]]) == 3
            assert not words(here) and not here.repository.device_engines()
        assert not misbuilding.builds and not (tmp_path / "engines").exists()

    live(story)


def test_without_golden_samples_nothing_shows_that_an_engine_is_right(tmp_path: Path, misbuilding: Misbuilding) -> None:
    whole = load_bundle(bundle_affine(tmp_path / "whole").path)
    path = write_bundle(
        tmp_path / "affine", deployment=whole.deployment, artifact=whole.artifact, proof=whole.proof, golden=[],
        tolerance=whole.tolerance, baseline={}, versions={},
    ).path  # fmt: skip

    async def story() -> None:
        async with served(path) as here:
            await settled(here, "refused")
            assert "no golden samples" in words(here)
        assert not misbuilding.builds

    live(story)


@pytest.mark.parametrize(
    ("engine", "kind", "said"),
    [("tensort", ConfigError, "tensort"), ("onnx", ConfigError, "onnx"), ("tensorrt", MissingExtra, "tensorrt")],
)
def test_an_engine_that_can_never_be_had_is_told_before_the_start(
    engine: str, kind: type[FerrymanError], said: str, tmp_path: Path
) -> None:
    if engine == "tensorrt" and plugins("runtimes")["tensorrt"].is_available:
        pytest.skip("TensorRT is installed here")
    path = bundle_affine(tmp_path / "affine").path

    async def story() -> None:
        with pytest.raises(kind, match=said):
            async with served(path, engine):
                pass

    live(story)
