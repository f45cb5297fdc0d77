"""Give every test what collects its counts; tests/conftest.py shows them at the end of the run."""

from collections.abc import Iterator

import pytest

from tests.chaos.counts import REPORT, Report
from tests.server.misbehaving import with_plugin


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Report:
    """Give what collects the counts."""
    return request.config.stash[REPORT]


@pytest.fixture(autouse=True)
def misbehaving_runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the servers that a test starts find the model that misbehaves on demand."""
    with_plugin(monkeypatch)
    yield
