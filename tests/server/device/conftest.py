"""Let this process and those that it starts find the plug-in that builds engines, and goes wrong on demand."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferryman.core import plugins
from tests.server.device import PLUGIN, Misbuilding


@pytest.fixture
def misbuilding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Misbuilding]:
    known = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{PLUGIN}:{known}" if known else str(PLUGIN))
    monkeypatch.setenv("MISBUILDING", str(tmp_path / "misbuilding.json"))
    monkeypatch.syspath_prepend(str(PLUGIN))
    plugins._load.cache_clear()
    yield Misbuilding(tmp_path / "misbuilding.json")
    plugins._load.cache_clear()
