"""Killed, out of disk, without a network: nothing half-written stays, and the error says the way out."""

import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ferryman.core.bundle import Bundle
from ferryman.core.errors import ImageError
from ferryman.core.progress import Progress, silent
from ferryman.oci.layout import Layout
from ferryman.package.debian import renewed, settle
from ferryman.package.fetch import Wheels
from ferryman.package.run import package_bundle
from ferryman.package.settings import Packaged, PackageSettings
from ferryman.package.target import Target
from tests.package.conftest import TAG
from tests.package.making import base_layout, fake_python, image_in

TARGET = Target("3.11", "glibc", (2, 36), "amd64")
PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
from ferryman.bundle.read import load_bundle
from ferryman.core.errors import ImageError
from ferryman.package.run import package_bundle
from ferryman.package.settings import PackageSettings
bundle, tag, output, cache, wheels, base = sys.argv[1:]
settings = PackageSettings(tag=tag, output=Path(output), wheels=Path(wheels), base=base)
try:
    package_bundle(replace(load_bundle(Path(bundle)), versions={}), settings, cache=Path(cache))
except ImageError as error:
    sys.exit(f"{error} HINT {error.hint}")
"""


def start(settings: PackageSettings, bundle: Bundle, cache: Path, *, limit: int = 0) -> "subprocess.Popen[str]":
    words = [str(bundle.path), TAG, str(settings.output), str(cache), str(settings.wheels), settings.base]

    def bound() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # as a full disk: EFBIG

    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words],
        text=True,
        stderr=subprocess.PIPE,
        preexec_fn=bound if limit else None,
        env={**os.environ, "PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo"},
    )


def test_killed_at_any_moment_it_leaves_no_image_and_the_next_run_makes_the_same_as_any(
    bundle: Bundle, packaged: Packaged, wheels: Path, tmp_path: Path
) -> None:
    settings, cache = PackageSettings(tag=TAG, output=tmp_path / "out", wheels=wheels), tmp_path / "cache"
    for seen in ("unpacked-*", ".ingest-*"):  # while wheels are unpacked; while their layer is packed
        process = start(settings, bundle, cache)
        deadline = time.monotonic() + 120
        is_begun = False
        while process.poll() is None and not is_begun and time.monotonic() < deadline:
            time.sleep(0.01)  # until it is in the middle of its work
            is_begun = bool(list((cache / "images" / "layers").glob("base-*")) and list((cache / "images").glob(seen)))
        process.kill()
        process.communicate(timeout=20)
        assert is_begun
        assert not Layout.open(tmp_path / "out").manifests()
    process = start(settings, bundle, cache)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert image_in(tmp_path / "out").descriptor.digest == packaged.digest, "from a cold cache, with other hashes"
    assert not [path.name for path in (cache / "images").iterdir() if path.name.startswith((".ingest", "unpacked-"))]


@pytest.fixture
def on_a_fake_base(wheels: Path, tmp_path: Path) -> PackageSettings:
    base = base_layout(tmp_path / "base", fake_python())
    return PackageSettings(tag=TAG, output=tmp_path / "out", base=f"oci:{base}", wheels=wheels)


def test_a_full_disk_is_said_and_leaves_no_image(
    on_a_fake_base: PackageSettings, bundle: Bundle, tmp_path: Path
) -> None:
    process = start(on_a_fake_base, bundle, tmp_path / "cache", limit=4_000_000)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "the disk is full" in said
    assert "HINT free space" in said
    assert not Layout.open(tmp_path / "out").manifests()
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.name.startswith((".", "blob"))]
    assert left == []


def test_without_a_network_it_says_which_packages_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(ImageError, match="wsproto") as caught:
        Wheels(tmp_path, TARGET, folder=None, progress=silent).get({"wsproto": "1.3.2"})
    assert "--wheels DIR" in caught.value.hint
    assert "wsproto==1.3.2" in caught.value.hint
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_to_get_wheels_leaves_setuptools_usable_for_what_compiles_after_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ferryman.core.errors import ImageError\n"
        "from ferryman.core.progress import silent; from ferryman.package.fetch import Wheels\n"
        "from tests.package.test_hardship import TARGET\n"
        "try: Wheels(Path(sys.argv[1]), TARGET, folder=None, progress=silent).get({'wsproto': '1.3.2'})\n"
        "except ImageError: import setuptools; print('usable')"
    )
    unreachable = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, env=os.environ | unreachable, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "usable\n"


def test_a_folder_without_a_wheel_that_fits_says_what_would_fit(tmp_path: Path) -> None:
    (tmp_path / "wsproto-1.2.0-py3-none-any.whl").write_bytes(b"")
    (tmp_path / "uvloop-0.23.0-cp311-cp311-manylinux_2_99_x86_64.whl").write_bytes(b"")
    (tmp_path / "nonsense.whl").write_bytes(b"")
    wheels = Wheels(tmp_path / "cache", TARGET, folder=tmp_path, progress=silent)
    with pytest.raises(ImageError, match=r"no wheel of wsproto 1\.3\.2 for linux/amd64, Python 3\.11 and glibc"):
        wheels.get({"wsproto": "1.3.2"})
    with pytest.raises(ImageError, match="no wheel of uvloop"):
        wheels.get({"uvloop": "0.23.0"})


def test_a_version_that_wheels_spell_otherwise_is_found_and_one_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "certifi-2025.8.3-py3-none-any.whl").write_bytes(b"")
    wheels = Wheels(tmp_path / "cache", TARGET, folder=tmp_path, progress=silent)
    assert wheels.get({"certifi": "2025.08.03"})[0].path.name == "certifi-2025.8.3-py3-none-any.whl"
    with pytest.raises(ImageError, match="no version of certifi"):
        Wheels(tmp_path / "cache", TARGET, folder=None, progress=silent).get({"certifi": "../../elsewhere"})


def test_a_base_of_debian_is_renewed_each_week_and_the_last_one_serves_where_there_is_no_network(
    tmp_path: Path,
) -> None:
    asked: list[Path] = []

    def get(_machine: str, _short: str, root: Path, _progress: Progress) -> None:
        asked.append(root)
        if root.name.endswith("-12"):
            raise ImageError("no network")
        root.mkdir()
        (root / "ferryman-packages").touch()

    def in_week(number: float) -> str:
        return renewed("arm64", "3.11", tmp_path, silent, now_s=number * 7 * 86400, get=get).name

    assert [in_week(10.1), in_week(10.9), in_week(11), in_week(12)] == [
        f"arm64-3.11-{week}" for week in (10, 10, 11, 11)
    ]
    assert [root.name[-2:] for root in asked] == ["10", "11", "12"]
    in_week(15.5)
    assert sorted(folder.name[-2:] for folder in tmp_path.iterdir()) == ["11", "15"], "older than a month: gone"
    with pytest.raises(ImageError, match="no network"):
        renewed("amd64", "3.11", tmp_path, silent, now_s=12 * 7 * 86400, get=get)


def test_two_runs_that_get_a_base_at_once_both_have_it(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ferryman-packages").write_text(name)
        settle(tmp_path / name, tmp_path / "arm64-3.11")
    assert (tmp_path / "arm64-3.11" / "ferryman-packages").read_text() == "first"
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "other").touch()
    with pytest.raises(OSError, match="not empty"):
        settle(tmp_path / "second", tmp_path / "taken")


def test_a_wheel_whose_content_is_not_what_it_lists_is_refused_by_name(
    on_a_fake_base: PackageSettings, bundle: Bundle, wheels: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    for wheel in wheels.iterdir():
        payload = wheel.read_bytes()
        if wheel.name.startswith("annotated_types"):
            middle = len(payload) // 2
            payload = payload[:middle] + bytes([payload[middle] ^ 1]) + payload[middle + 1 :]
        (folder / wheel.name).write_bytes(payload)
    with pytest.raises(ImageError, match="annotated_types"):
        package_bundle(bundle, replace(on_a_fake_base, wheels=folder), cache=tmp_path / "cache")
    assert not Layout.open(tmp_path / "out").manifests()
