"""Let this process and those that it starts find the misbehaving runtime."""

from collections.abc import Iterator

import pytest

from ferryman.core import plugins
from tests.server.misbehaving import PLUGIN, with_plugin


@pytest.fixture(autouse=True)
def misbehaving_runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with_plugin(monkeypatch)
    monkeypatch.syspath_prepend(str(PLUGIN))
    plugins._load.cache_clear()
    yield
    plugins._load.cache_clear()
