"""One registry for all tests that only push and pull."""

import tempfile
from collections.abc import Iterator

import pytest

from tests.oci.registries import docker_registry


@pytest.fixture(scope="session")
def registry_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def podman() -> Iterator[tuple[str, ...]]:
    """Give podman with a storage of its own; it takes no long paths."""
    with tempfile.TemporaryDirectory(prefix="fp", dir="/tmp") as folder:
        own = [f"--{name}={folder}/{name}" for name in ("root", "runroot", "tmpdir")]
        yield ("podman", *own, "--storage-driver=vfs")


@pytest.fixture(autouse=True)
def nobody_is_logged_in(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path_factory.mktemp("nobody") / "auth.json"
    file.write_text("{}")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
