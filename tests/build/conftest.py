"""One project and one cache for all builds of this folder: what one test measured, the next finds."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ferryman import api
from tests.build.making import write_project, write_toml

Build = Callable[..., api.Built]


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("original") / "squares")


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def shared_cache(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setitem(os.environ, "FERRYMAN_CACHE", str(cache_folder))
    yield cache_folder


@pytest.fixture
def project(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "squares"))


@pytest.fixture
def build(project: Path, shared_cache: Path) -> Build:
    """Build the project with these sections of ferryman.toml."""

    def run(*, fresh: bool = False, **sections: str) -> api.Built:
        write_toml(project, **sections)
        return api.build(project, fresh=fresh)

    return run
