import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from tests.bundle.making import describe, make_affine

from ferryman.core.engine import EngineRequest, fingerprint_of
from ferryman.core.engine_cache import EngineCache, describe_engines
from ferryman.core.errors import ConfigError, StepError
from ferryman.runtimes.openvino import OpenVINORuntime

MB = 1024 * 1024


def fingerprint(model: str = "a") -> dict[str, str]:
    return {"engine": "toy", "model": model, "device": "toaster"}


def writes(content: bytes = b"engine") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "plan").write_bytes(content)

    return make


def refuse(_: Path) -> None:
    raise AssertionError("it was built again")


def test_what_was_built_is_found_by_all_that_it_depends_on(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")
    assert cache.find(fingerprint()) is None
    built = cache.build(fingerprint(), writes())
    assert cache.find(fingerprint()) == built == EngineCache(tmp_path / "engines").build(fingerprint(), refuse)
    assert (built / "plan").read_bytes() == b"engine"
    for key in fingerprint():
        assert cache.find({**fingerprint(), key: "another"}) is None


def be_foreign(entry: Path) -> None:
    record = entry / "engine.json"
    record.write_text(record.read_text().replace("toaster", "kettle"))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut short": lambda entry: (entry / "engine" / "plan").write_bytes(b"eng"),
    "one file more": lambda entry: (entry / "engine" / "more").write_bytes(b""),
    "one file less": lambda entry: (entry / "engine" / "plan").unlink(),
    "no record": lambda entry: (entry / "engine.json").unlink(),
    "a hostile record": lambda entry: (entry / "engine.json").write_text("[" * 10**5),
    "another device's": be_foreign,
    "open to others": lambda entry: (entry / "engine" / "plan").chmod(0o666),
    "a folder open to others": lambda entry: (entry / "engine").chmod(0o777),
    "a link": lambda entry: (entry / "engine" / "link").symlink_to(entry.parent),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_whole_or_not_for_this_is_thrown_away(damage: str, tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    entry = cache.build(fingerprint(), writes()).parent
    DAMAGES[damage](entry)
    assert cache.find(fingerprint()) is None
    assert not entry.exists()
    assert (cache.build(fingerprint(), writes()) / "plan").read_bytes() == b"engine"


def test_what_others_may_have_put_into_the_shared_folder_is_thrown_away(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    cache.shared.mkdir()
    (cache.shared / "planted").write_text("")
    (cache.shared / "planted").chmod(0o666)
    cache.build(fingerprint(), writes())
    assert not list(cache.shared.iterdir())
    (cache.shared / "measured").write_text("")
    (cache.shared / "measured").chmod(0o600)
    cache.build(fingerprint("b"), writes())
    assert (cache.shared / "measured").exists()


def test_what_is_built_is_found_whatever_a_group_usually_may(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        EngineCache(tmp_path / "engines").build(fingerprint(), writes())
    finally:
        os.umask(before)
    assert EngineCache(tmp_path / "engines").find(fingerprint()) is not None


def test_an_engine_of_another_recipe_is_built_anew(tmp_path: Path) -> None:
    class Mended(OpenVINORuntime):
        recipe: ClassVar[int] = OpenVINORuntime.recipe + 1

        def identity(self) -> dict[str, str]:
            return {"device": "toaster"}

    class Before(Mended):
        recipe: ClassVar[int] = OpenVINORuntime.recipe

    source, request = describe(make_affine(tmp_path)), EngineRequest(tmp_path)
    known = fingerprint_of(Before(), source, request)
    assert known == fingerprint_of(Before(), source, request)
    for other in (
        fingerprint_of(Mended(), source, request),
        fingerprint_of(Before(), replace(source, digest="other"), request),
        fingerprint_of(Before(), source, EngineRequest(tmp_path, {"sparse": True})),
        fingerprint_of(Before(), source, EngineRequest(tmp_path, max_batch=2)),
    ):
        assert other != known


def test_nothing_half_made_stays(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "plan").write_bytes(b"half")
        raise StepError("told to fail")

    with pytest.raises(StepError, match="told to fail"):
        cache.build(fingerprint(), fail)
    assert not cache.entries() and not list(tmp_path.glob(".making-*"))


def test_a_full_disk_is_told_as_that(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("NOT TESTED: there is no /dev/full")

    def fill(_: Path) -> None:
        with full.open("wb", buffering=0) as file:
            file.write(b"engine")

    with pytest.raises(StepError, match="no space is left") as caught:
        EngineCache(tmp_path).build(fingerprint(), fill)
    assert "--engines" in caught.value.hint
    assert not EngineCache(tmp_path).entries()


def test_what_fails_elsewhere_is_not_laid_to_the_folder(tmp_path: Path) -> None:
    def miss(_: Path) -> None:
        (tmp_path / "model.onnx").read_bytes()

    with pytest.raises(FileNotFoundError, match=r"model\.onnx"):
        EngineCache(tmp_path / "engines").build(fingerprint(), miss)


def test_what_is_no_engine_of_ours_is_left_alone(tmp_path: Path) -> None:
    for name in ("datasets", f"run-{'0' * 24}"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "labels").write_bytes(bytes(3 * MB))
    cache = EngineCache(tmp_path, limit_mb=1)
    built = cache.build(fingerprint(), writes())
    assert list(cache.entries()) == [built.parent]
    assert (tmp_path / "datasets" / "labels").exists()
    assert (tmp_path / f"run-{'0' * 24}" / "labels").exists()


def test_the_longest_unused_engine_makes_room(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, limit_mb=3)
    for age, model in enumerate("abc"):
        entry = cache.build(fingerprint(model), writes(bytes(MB - 1000))).parent
        os.utime(entry / "engine.json", (age, age))
    assert cache.find(fingerprint("a")) is not None  # used just now
    cache.build(fingerprint("d"), writes(bytes(MB - 1000)))
    assert [model for model in "abcd" if cache.find(fingerprint(model))] == ["a", "c", "d"]


def test_one_engine_that_is_larger_than_the_limit_is_kept_alone(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, limit_mb=1)
    cache.build(fingerprint("small"), writes())
    cache.build(fingerprint("large"), writes(bytes(2 * MB)))
    assert [model for model in ("small", "large") if cache.find(fingerprint(model))] == ["large"]


@contextmanager
def building(folder: Path) -> Iterator[threading.Event]:
    """Build in another thread until the event that is given is set, or all is over."""
    begun, may_end = threading.Event(), threading.Event()

    def slow(empty: Path) -> None:
        begun.set()
        may_end.wait(30)
        writes()(empty)

    builder = threading.Thread(target=lambda: EngineCache(folder).build(fingerprint(), slow))
    builder.start()
    try:
        assert begun.wait(30)
        yield may_end
    finally:
        may_end.set()
        builder.join(30)


def test_two_builders_build_once(tmp_path: Path) -> None:
    with building(tmp_path) as may_end:
        second = threading.Thread(target=lambda: EngineCache(tmp_path).build(fingerprint(), refuse))
        second.start()
        may_end.set()
        second.join(30)
    assert len(EngineCache(tmp_path).entries()) == 1


def test_who_waits_for_another_builder_says_so_and_not_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with building(tmp_path), pytest.raises(StepError, match=r"another process still builds .* after 0\.2 s"):
        EngineCache(tmp_path, turn_s=0.2).build(fingerprint("b"), refuse)
    assert [record.message for record in caplog.records if "this build waits for it" in record.message]


def test_a_folder_that_others_may_write_into_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ConfigError, match="others may write") as caught:
        EngineCache(tmp_path / "open")
    assert caught.value.hint.startswith("empty ")
    EngineCache(tmp_path / "ours")
    assert (tmp_path / "ours").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cant_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can't be kept"):
        EngineCache(tmp_path / "file" / "engines")


def test_what_is_kept_is_described(tmp_path: Path) -> None:
    assert "not there yet" in describe_engines(tmp_path / "none")
    EngineCache(tmp_path).build(fingerprint(), writes(bytes(MB)))
    assert "(1 engines, 1.0 MB)" in describe_engines(tmp_path)
