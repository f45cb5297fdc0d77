"""The archive for edge boxes: made, installed for real below a folder, updated, taken back, removed."""

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from ferryman.bundle.write import write_bundle
from ferryman.core.bundle import Bundle
from ferryman.core.errors import ConfigError
from ferryman.core.progress import silent
from ferryman.core.target import Landing
from ferryman.targets.edge import Edge
from ferryman.targets.landing import land
from tests.bundle.making import bundle_affine

pytestmark = [
    pytest.mark.tool("unshare", "chroot"),
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: to install wants root"),
]

_X86_64, _AARCH64 = 62, 183  # e_machine, elf(5)


def with_versions(bundle: Bundle) -> Bundle:
    """Name the packages that are installed here as those that the bundle was verified with."""
    return write_bundle(
        bundle.path, deployment=bundle.deployment, artifact=bundle.artifact, proof=bundle.proof, golden=bundle.golden,
        tolerance=bundle.tolerance, baseline=bundle.baseline, versions={"onnxruntime": version("onnxruntime")},
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Edge, Landing, Path]]:
    folder = tmp_path_factory.mktemp("edge")
    bundle = with_versions(bundle_affine(folder / "affine"))
    (folder / "release.pub").write_text("-----BEGIN PUBLIC KEY-----\n")
    edge = Edge(kind="edge", output=str(folder / "out"), keys=(str(folder / "release.pub"),), fleet="street")
    landing = land(bundle, edge, "")
    (change,) = edge.apply(landing, dry_run=False, progress=silent)
    with tarfile.open(change.what) as archive:
        archive.extractall(folder / "box", filter="data")
    (unpacked,) = (folder / "box").iterdir()
    yield edge, landing, unpacked
    shutil.rmtree(folder)


def install(unpacked: Path, root: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(unpacked / "install.sh"), "--root", str(root), *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, **environment}
    )


@pytest.mark.slow
def test_it_installs_without_a_network_again_and_goes(made: tuple[Edge, Landing, Path], tmp_path: Path) -> None:
    _, _, unpacked = made
    done = install(unpacked, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "outcome: updated" in done.stdout  # the golden samples were answered right by the runtime itself
    assert "MB in" in done.stdout
    state = tmp_path / "var/lib/ferryman"
    assert (state / "current").readlink() == Path("slots/a")
    unit = (tmp_path / "etc/systemd/system/ferryman-edge.service").read_text()
    runtime = (tmp_path / "opt/ferryman/runtime").readlink()
    assert f"RootDirectory=/opt/ferryman/{runtime}\n" in unit
    again = install(unpacked, tmp_path)
    assert "outcome: unchanged" in again.stdout, again.stderr
    assert install(unpacked, tmp_path, "--rollback").returncode == 1  # there is no runtime from before
    newer = tmp_path / "newer"
    shutil.copytree(unpacked, newer)
    text = (newer / "install.sh").read_text()
    (newer / "install.sh").write_text(text.replace(f"name={runtime.name}", "name=0123456789abcdef"))
    assert "outcome: unchanged" in install(newer, tmp_path).stdout  # the golden samples are asked all the same
    assert (tmp_path / "opt/ferryman/runtime").readlink().name == "0123456789abcdef"
    assert install(unpacked, tmp_path, "--rollback").returncode == 0
    assert (tmp_path / "opt/ferryman/runtime").readlink() == runtime
    assert install(unpacked, tmp_path, "--uninstall").returncode == 0
    assert not (tmp_path / "opt/ferryman/runtime").exists()
    assert (state / "current").exists()
    assert install(unpacked, tmp_path, "--uninstall", "--purge").returncode == 0
    assert not state.exists()


@pytest.mark.slow
@pytest.mark.tool("apt-get")
def test_an_archive_for_another_machine_holds_nothing_of_this_one(tmp_path: Path) -> None:
    here = Edge(kind="edge").platform
    machine, code = ("arm64", _AARCH64) if here == "linux/amd64" else ("amd64", _X86_64)
    bundle = with_versions(bundle_affine(tmp_path / "affine"))
    edge = Edge(kind="edge", output=str(tmp_path / "out"), platform=f"linux/{machine}")
    (change,) = edge.apply(land(bundle, edge, ""), dry_run=False, progress=silent)
    assert change.what.endswith(f"-{machine}.tar.gz")
    programs: dict[str, int] = {}
    with tarfile.open(change.what) as archive:
        for member in archive:
            if "/layers/" in member.name:
                with tarfile.open(fileobj=archive.extractfile(member)) as layer:
                    programs |= _machines_in(layer)
        (script,) = (one for one in archive.getmembers() if one.name.endswith("/install.sh"))
        assert f"this archive is for linux/{machine}" in (archive.extractfile(script) or io.BytesIO()).read().decode()
    assert set(programs.values()) == {code}, {name: one for name, one in programs.items() if one != code}
    assert any("onnxruntime" in name for name in programs)
    assert any(name.endswith("bin/python3.11") or "/python3" in name for name in programs)


def _machines_in(layer: tarfile.TarFile) -> dict[str, int]:
    """Give e_machine of every ELF file (elf(5)), by its name."""
    found = {}
    for member in layer:
        stream = layer.extractfile(member) if member.isfile() else None
        head = stream.read(20) if stream else b""
        if head[:4] == b"\x7fELF":
            found[member.name] = int.from_bytes(head[18:20], "little")
    return found


def test_a_changed_file_and_another_machine_are_refused(made: tuple[Edge, Landing, Path], tmp_path: Path) -> None:
    _, _, unpacked = made
    other = install(unpacked, tmp_path, FERRYMAN_MACHINE="riscv64")
    assert other.returncode == 1
    assert "this archive is for linux/" in other.stderr
    shutil.copytree(unpacked, tmp_path / "copy")
    with (tmp_path / "copy" / "bundle.ferry").open("r+b") as stream:
        stream.seek(2000)
        stream.write(b"x")
    changed = install(tmp_path / "copy", tmp_path / "root")
    assert changed.returncode == 1
    assert "was changed" in changed.stderr
    assert not (tmp_path / "root").exists()


def test_the_same_parts_give_the_same_archive(made: tuple[Edge, Landing, Path]) -> None:
    edge, landing, _ = made
    assert [change.move for change in edge.apply(landing, dry_run=False, progress=silent)] == ["keep"]
    assert edge.status(landing.name).is_there


@pytest.mark.tool("systemd-analyze")
def test_systemd_accepts_the_units(made: tuple[Edge, Landing, Path], tmp_path: Path) -> None:
    _, _, unpacked = made
    for file in (unpacked / "units").iterdir():
        text = file.read_text().replace("@RUNTIME@", "/").replace("/usr/local/bin/python3", "/bin/sh")
        (tmp_path / file.name).write_text(text)
    files = [str(file) for file in sorted(tmp_path.iterdir())]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True, timeout=60, check=False
    )
    assert [line for line in done.stderr.splitlines() if str(tmp_path) in line] == []


def test_an_image_alone_is_refused_and_logs_are_the_boxes_own(made: tuple[Edge, Landing, Path]) -> None:
    edge, landing, _ = made
    with pytest.raises(ConfigError, match="boxes keep their own logs"):
        list(edge.logs(landing.name, lines=1))
