"""A real toolchain, small enough for every run."""

import contextlib
import time
from pathlib import Path

import pytest

from ferryman.build.toolchain import add_toolchain
from ferryman.core.toolchain import Toolchain

TINY = Toolchain("tiny", "Numpy alone, for tests.", python=("numpy==2.4.6",), expected_mb=100)


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toolchains")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FERRYMAN_TOOLCHAINS", str(folder))
        add_toolchain(TINY)
    return folder


@pytest.fixture
def tiny(_made: Path, monkeypatch: pytest.MonkeyPatch) -> Toolchain:
    monkeypatch.setenv("FERRYMAN_TOOLCHAINS", str(_made))
    return TINY


def running(marker: str) -> list[int]:
    """Give the processes that have an argument like this one: in a namespace they don't know our numbers for them."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended
                if marker.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


def wait_until_none_runs(marker: str) -> None:
    deadline = time.monotonic() + 10
    while running(marker):
        assert time.monotonic() < deadline, f"{marker} still runs"
