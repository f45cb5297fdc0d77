"""Keys, a bundle and a registry for all tests of signatures."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferryman.supply.keys import make_key
from tests.bundle.making import bundle_affine
from tests.oci.registries import docker_registry


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with the keys good, other (whom nobody trusts) and locked (passphrase: opensesame)."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("good", "other"):
        make_key(folder / name)
    make_key(folder / "locked", passphrase=b"opensesame")
    return folder


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_affine(tmp_path_factory.mktemp("bundles") / "affine").path


@pytest.fixture
def bundle(original: Path, tmp_path: Path) -> Path:
    """Give an unsigned bundle of one's own."""
    return Path(shutil.copytree(original, tmp_path / "affine"))


@pytest.fixture(scope="session")
def registry_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host
