"""Collect every test's counts and show them at the end of the run."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.counts import Report
from tests.server.misbehaving import with_plugin

_REPORT = pytest.StashKey[Report]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin with nothing."""
    config.stash[_REPORT] = Report()


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Report:
    """Give what collects the counts."""
    return request.config.stash[_REPORT]


@pytest.fixture(autouse=True)
def misbehaving_runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the servers that a test starts find the model that misbehaves on demand."""
    with_plugin(monkeypatch)
    yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the table, and write it where FERRYMAN_CHAOS_REPORT says."""
    report = config.stash[_REPORT]
    if not report.rows:
        return
    terminalreporter.section("what became of the requests")
    for line in report.table():
        terminalreporter.write_line(line)
    if path := os.environ.get("FERRYMAN_CHAOS_REPORT"):
        report.write(Path(path))
