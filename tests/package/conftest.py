"""One image for all tests that only look, and one folder of wheels for all that make another."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ferryman.core.bundle import Bundle
from ferryman.package.run import package_bundle
from ferryman.package.settings import Packaged, PackageSettings
from tests.bundle.making import bundle_colour
from tests.package.demo import build_demo
from tests.package.engines import PODMAN, remove

TAG = "localhost/ferryman-test-colour:1"
DEMO = "localhost/ferryman-test-demo:1"
BOTH = ("linux/amd64", "linux/arm64")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made = bundle_colour(tmp_path_factory.mktemp("bundle") / "colour")
    return replace(made, versions={})  # what its maker wrote there are no versions of packages


@pytest.fixture(scope="session")
def packaged(bundle: Bundle, cache: Path) -> Packaged:
    return package_bundle(bundle, PackageSettings(tag=TAG), cache=cache)


@pytest.fixture(scope="session")
def layout(packaged: Packaged) -> Path:
    assert packaged.output is not None
    return packaged.output


@pytest.fixture(scope="session")
def wheels(packaged: Packaged, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with the wheels of the image: what a user without a network has."""
    assert packaged.images
    folder = tmp_path_factory.mktemp("wheels")
    for wheel in (cache / "images" / "wheels" / "files").rglob("*.whl"):
        (folder / wheel.name).symlink_to(wheel)
    return folder


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Give the demo's detector as a bundle; its golden samples are few, since an emulated machine answers them, too."""
    return build_demo(tmp_path_factory.mktemp("demo"), "onnx-fp32", golden=2)


@pytest.fixture(scope="session")
def demo_image(demo: Bundle, cache: Path) -> Packaged:
    """Give the demo's image, for both kinds of machines."""
    return package_bundle(demo, PackageSettings(tag=DEMO, platforms=BOTH), cache=cache)


@pytest.fixture(scope="session")
def loaded_demo(demo_image: Packaged) -> Iterator[str]:
    """Give the name under which podman has the demo's image for this machine."""
    copy = ["skopeo", "copy", "-q", f"oci:{demo_image.output}:{DEMO}", f"containers-storage:{DEMO}"]
    subprocess.run(copy, check=True, timeout=120)
    yield DEMO
    remove(PODMAN, [DEMO])
