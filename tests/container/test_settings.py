"""What an argument means, which limits and promises hold, whose container a name tells."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ferryman.bundle.read import load_bundle
from ferryman.container.owner import Owner, new_name, owner_of
from ferryman.container.settings import ImageSettings, limits_of, promises_of
from ferryman.container.source import is_image
from ferryman.core.errors import UserError
from ferryman.targets.landing import memory_mb
from tests.bundle.making import bundle_affine
from tests.cli.running import ferryman


@pytest.mark.parametrize(
    "target",
    ["oci:somewhere", "docker-archive:file.tar", "street:1", "localhost/street:1", "localhost:5000/a/street",
     "ghcr.io/me/street", "street@sha256:" + "0" * 64],
)  # fmt: skip
def test_an_image_is_told_from_a_path(target: str) -> None:
    assert is_image(target)


@pytest.mark.parametrize("target", ["dist/street", "street", "./street:1", "/dist/street", "street.ferry", "C:/street"])
def test_a_path_is_no_image(target: str) -> None:
    assert not is_image(target)


def test_what_is_there_is_a_path_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "street:1").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not is_image("street:1")


def test_limits_and_promises_come_from_the_settings_before_the_contract(tmp_path: Path) -> None:
    bundle = load_bundle(bundle_affine(tmp_path / "affine").path)
    promises = promises_of(ImageSettings(), bundle)
    assert (promises.max_start_s, promises.max_image_mb, promises.p99_ms) == (2.0, 230.0, None)
    asked = ImageSettings(max_rss_mb=100.5, max_start_s=9, cpus=0.5)
    promises = promises_of(asked, bundle)
    assert promises.max_start_s == 9
    limits = limits_of(asked, promises, bundle)
    assert (limits.memory_mb, limits.cpus) == (120 + 192, 0.5)  # 100.5 MB x 1.25 are 119.8 MiB
    assert "max_rss_mb 100.5" in limits.memory_from
    assert limits.memory_mb == memory_mb(100.5), "an image is verified within what targets give it"
    assert limits_of(ImageSettings(memory_mb=64), promises, bundle).memory_from == "as asked"
    assert promises_of(ImageSettings(), None).max_start_s is None


def test_more_cpus_than_there_are_are_told_and_not_asked_for() -> None:
    limits = limits_of(ImageSettings(cpus=100_000), promises_of(ImageSettings(), None), None)
    assert limits.cpus <= (os.cpu_count() or 1)
    assert "100000, of which this machine has" in limits.cpus_from


def test_a_name_tells_whose_container_it_is_and_whether_that_process_has_ended() -> None:
    owner = owner_of(new_name())
    assert owner == Owner.me()
    assert not owner.is_gone()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(30)
    assert Owner(owner.machine, owner.boot, ended.pid, 1).is_gone()
    assert Owner(owner.machine, "0123456789ab", owner.pid, owner.start).is_gone(), "the machine was started anew"
    assert not Owner("another", "0123456789ab", 1, 1).is_gone(), "another machine's processes can't be seen"
    assert owner_of("ferryman-verify-of-mine") is None
    assert owner_of("postgres") is None


@pytest.mark.tool("unshare")
def test_a_process_of_another_container_with_the_same_machine_id_is_never_taken_for_ended() -> None:
    told = "from ferryman.container.owner import Owner; print(Owner.me())"
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", sys.executable, "-c", told]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        pytest.skip(f"NOT TESTED: no PID namespace here: {done.stderr.strip()}")
    other = Owner.parse(done.stdout.strip())
    assert other is not None
    assert other.boot == Owner.me().boot
    assert not other.is_gone(), "its pid means another process here"


def test_an_image_in_a_file_or_folder_is_told_its_name(tmp_path: Path) -> None:
    (tmp_path / "street.tar").touch()
    (tmp_path / "layout").mkdir()
    (tmp_path / "layout" / "oci-layout").touch()
    for target, name in (("street.tar", "docker-archive:street.tar"), ("layout", "oci:layout")):
        answer = ferryman("verify", target, folder=tmp_path)
        assert answer.returncode == UserError.exit_code
        assert name in answer.stderr


def test_an_option_for_images_is_refused_for_a_bundle(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "affine")
    answer = ferryman("verify", "affine", "--junit", "out.xml", folder=tmp_path)
    assert answer.returncode == UserError.exit_code
    assert "--junit is for an image, and affine is none" in answer.stderr
