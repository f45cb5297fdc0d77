"""Small bundles of one model, several versions of it, made once."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ferryman.bundle.land import landing
from ferryman.core.bundle import Bundle
from tests.bundle.making import bundle_affine
from tests.chaos.counts import REPORT, Report


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Give bundles of the model `affine` by name: `one`, `two` and `three` differ in their factor."""
    folder = tmp_path_factory.mktemp("versions")
    return {
        name: bundle_affine(folder / name, factor=factor)
        for name, factor in {"one": 2.0, "two": 3.0, "three": 4.0}.items()
    }


@pytest.fixture
def fetch(versions: dict[str, Bundle]) -> Callable[[str, Path], None]:
    """Give what brings a bundle by its name into a folder, file by file, as a download would."""

    def copy(source: str, folder: Path) -> None:
        with landing(folder) as staged:
            shutil.copytree(versions[source].path, staged, dirs_exist_ok=True)

    return copy


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Report:
    """Give what collects lines for the end of the run."""
    return request.config.stash[REPORT]
