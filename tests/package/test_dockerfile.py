"""The Dockerfile that is written builds with podman, without a network, and the image answers."""

import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest

from ferryman.core.bundle import Bundle
from ferryman.core.errors import ConfigError
from ferryman.core.progress import silent
from ferryman.oci.image import ImageConfig, write_image
from ferryman.oci.layer import Entry, write_layer
from ferryman.oci.layout import Layout
from ferryman.package.base import own_base, this_machine
from ferryman.package.dockerfile import write_dockerfile
from ferryman.package.run import package_bundle
from ferryman.package.settings import Packaged, PackageSettings
from ferryman.package.store import Store
from tests.package.conftest import TAG
from tests.package.engines import PODMAN, remove

WITH_PIP = "localhost/ferryman-test-with-pip:1"
BUILT = TAG.replace(":1", ":built")


def written(folder: Path, bundle: Bundle, cache: Path, wheels: Path | None = None) -> str:
    settings = PackageSettings(tag=BUILT, dockerfile=folder, wheels=wheels, base=WITH_PIP)
    made = package_bundle(bundle, settings, cache=cache)
    assert made.hint == f"podman build --format docker -t {BUILT} {folder}"
    return (folder / "Dockerfile").read_text()


def test_it_is_locked_by_digest_and_says_all_that_the_image_says(
    bundle: Bundle, cache: Path, packaged: Packaged, tmp_path: Path
) -> None:
    text = written(tmp_path / "docker", bundle, cache)
    assert packaged.images[0].contents
    assert 'ENTRYPOINT ["python3", "-m", "ferryman"]' in text
    assert "USER 65532:65532" in text
    assert 'HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python3", "-m"' in text
    lock = (tmp_path / "docker" / "requirements.txt").read_text()
    digests = {one.name: one.sha256 for one in packaged.images[0].contents if one.sha256}
    assert digests
    assert all(f"{name}==" in lock and f"--hash=sha256:{digest}" in lock for name, digest in digests.items())
    assert (tmp_path / "docker" / "bundle" / "bundle.json").is_file()
    before = {file: file.read_bytes() for file in (tmp_path / "docker").rglob("*") if file.is_file()}
    written(tmp_path / "docker", bundle, cache)
    assert {file: file.read_bytes() for file in (tmp_path / "docker").rglob("*") if file.is_file()} == before


def test_a_folder_of_somebody_else_is_never_written_to(bundle: Bundle, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    with pytest.raises(ConfigError, match="not written by this"):
        package_bundle(bundle, PackageSettings(tag=BUILT, dockerfile=tmp_path), cache=cache)
    assert (tmp_path / "Dockerfile").read_text() == "FROM scratch\n"


def test_a_label_that_would_be_an_instruction_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    config = ImageConfig(entrypoint=("python3",), labels={"org.opencontainers.image.licenses": "MIT\nRUN evil"})
    with pytest.raises(ConfigError, match="can't hold the label"):
        write_dockerfile(tmp_path / "docker", bundle, config, base="x", wheels=[], offline=False)
    assert not (tmp_path / "docker").exists()


@pytest.fixture
def base_with_pip(cache: Path, packaged: Packaged, tmp_path: Path) -> str:
    """Give an image of our own base and pip, as podman knows it: nothing is downloaded for it."""
    assert packaged.digest
    base = own_base(this_machine(), Store(cache / "images"), silent)
    layout = Layout.create(tmp_path / "with-pip")
    store = Store(cache / "images")
    layout.blobs.add_file(store.blobs.path(base.layers[0].descriptor.digest), base.layers[0].descriptor.digest)
    home = Path(str(distribution("pip").locate_file("pip")))
    files = [file for file in home.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    where = f"usr/local/lib/python{base.target.python}/site-packages/pip"
    layer = write_layer([Entry(f"{where}/{file.relative_to(home)}", content=file) for file in files], layout.blobs)
    config = ImageConfig(env=base.config.env)
    layout.tag(write_image(layout.blobs, config, [*base.layers, layer], platform=base.target.platform), WITH_PIP)
    return f"oci:{layout.folder}:{WITH_PIP}"


@pytest.mark.tool("podman", "skopeo")
def test_podman_builds_it_without_a_network_and_the_image_answers(
    base_with_pip: str, bundle: Bundle, cache: Path, wheels: Path, tmp_path: Path
) -> None:
    written(tmp_path / "docker", bundle, cache, wheels)
    try:
        subprocess.run(
            ["skopeo", "copy", "-q", base_with_pip, f"containers-storage:{WITH_PIP}"], check=True, timeout=120
        )
        build = ("build", "--network=none", "--pull=never", "--format", "docker", "-t", BUILT)
        PODMAN(*build, str(tmp_path / "docker"), timeout=300)
        with PODMAN.running(BUILT) as (name, _):
            assert PODMAN("healthcheck", "run", name, check=False) in ("", "healthy")
    finally:
        remove(PODMAN, [BUILT, WITH_PIP])
        PODMAN(
            "image",
            "prune",
            "-f",
            "--filter",
            f"label=ferryman.bundle.digest=sha256:{bundle.manifest.digest}",
            check=False,
        )
