"""What the locks pin: all that a toolchain holds, by version, and no place that it comes from."""

import json
import re

import pytest

from ferryman.build.installer import node_pins
from ferryman.core.toolchain import Toolchain, toolchains

OURS = sorted(name for name, toolchain in toolchains().items() if toolchain.lock or toolchain.node_lock)
EACH = [pytest.param(name, marks=pytest.mark.toolchain(name)) for name in OURS]
SEEDED = {"pip", "setuptools"}  # Python itself puts them into a new environment


@pytest.mark.parametrize(
    "name", ["coreml", "executorch", "litert", "mnn", "ncnn", "tensorflow", "torch", "ultralytics"]
)
def test_a_toolchain_of_python_packages_has_a_lock_that_agrees_with_its_pins(name: str) -> None:
    toolchain = toolchains()[name]
    locked = _locked(toolchain)
    for pin in (*toolchain.python, *toolchain.bare):
        package, version = _split(pin)
        assert locked.get(package, version) == version


@pytest.mark.parametrize("name", ["tfjs", "web"])
def test_a_lock_of_npm_has_the_pins_a_digest_of_each_package_and_no_address(name: str) -> None:
    toolchain = toolchains()[name]
    assert toolchain.node_lock is not None
    text = toolchain.node_lock.read_text(encoding="utf-8")
    assert "://" not in text
    packages = json.loads(text)["packages"]
    assert packages.pop("")["dependencies"] == node_pins(toolchain)
    assert len(packages) > len(toolchain.node)
    for package in packages.values():
        assert package["version"]
        assert package["integrity"].startswith("sha512-")


@pytest.mark.parametrize("name", EACH)
def test_all_that_is_installed_is_pinned_or_locked(name: str) -> None:
    toolchain = toolchains()[name]
    assert toolchain.record is not None
    pinned = dict(map(_split, (*toolchain.python, *toolchain.bare))) | _locked(toolchain)
    npm = _npm(toolchain)
    for package, version in toolchain.record["packages"].items():
        if package.startswith("node_modules/"):
            assert npm.pop(package) == version
        elif _plain(package) not in SEEDED - set(pinned):
            assert pinned[_plain(package)] in (version, version.partition("+")[0]), package
    assert not npm, "all that the lock has is installed"


def _locked(toolchain: Toolchain) -> dict[str, str]:
    lines = toolchain.lock.read_text(encoding="utf-8").splitlines() if toolchain.lock else []
    return dict(_split(line) for line in lines if line and not line.startswith("#"))


def _npm(toolchain: Toolchain) -> dict[str, str]:
    packages = json.loads(toolchain.node_lock.read_text(encoding="utf-8"))["packages"] if toolchain.node_lock else {}
    return {place: package["version"] for place, package in packages.items() if place}


def _split(pin: str) -> tuple[str, str]:
    package, version = pin.partition(";")[0].split("==")
    return _plain(package.partition("[")[0]), version.strip()


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
