"""Fixtures and order for the whole suite."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

from ferryman.core.toolchain import find_toolchain
from tests.chaos.counts import REPORT, Report

# What talks to servers runs one after the other, and beside it all else, file by file, where there are two processes.
SERVING = (
    "server/",
    "chaos/",
    "conformance_v2/",
    "test_serving_guide.py",
    "test_readme.py",
    "cli/",
    "client/",
    "container/",
    "targets/test_ray",
    "targets/test_rolling",
    "package/",
    "fleet/",
    "monitor/notify/",
    "monitor/prometheus/",
)
REPOSITORY = Path(__file__).resolve().parent.parent

# Programs that tests use as independent readers, and how podman must be set up in a container: scripts/containers.
TOOLS = Path(os.environ.get("FERRYMAN_TOOLS") or Path.home() / ".cache" / "ferryman-tools")
os.environ["PATH"] = f"{TOOLS / 'bin'}{os.pathsep}{os.environ['PATH']}"
if (TOOLS / "containers.conf").is_file():
    os.environ.setdefault("CONTAINERS_CONF", str(TOOLS / "containers.conf"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Give the folder of real models and data; skips the test, loudly, where it is missing."""
    folder = Path(os.environ.get("FERRYMAN_SHARED") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"NOT TESTED: the real models and data are missing ({folder}); set FERRYMAN_SHARED to their folder")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what is quick first, so that a plain mistake shows at once; give `shared` to all that uses its data."""
    for item in items:
        if "shared_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.shared)
        for marker in item.iter_markers("toolchain"):
            missing = [name for name in marker.args if not find_toolchain(name).is_installed]
            if missing:
                reason = f"NOT TESTED: no toolchain {', '.join(missing)}: ferryman toolchain add {' '.join(missing)}"
                item.add_marker(pytest.mark.skip(reason=reason))
        for marker in item.iter_markers("tool"):
            if missing := [name for name in marker.args if shutil.which(name) is None]:
                reason = f"NOT TESTED: no {', '.join(missing)} here: scripts/containers and scripts/ray install them"
                item.add_marker(pytest.mark.skip(reason=reason))
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


class ByRoom(LoadScopeScheduling):  # type: ignore[misc]  # of a package without types
    """Keep all that talks to servers in one process; other files go to whoever is free, each as a whole."""

    def _split_scope(self, nodeid: str) -> str:
        """Give the name of what must run in one process."""
        file = nodeid.split("::", 1)[0]
        return "serving" if file.removeprefix("tests/").startswith(SERVING) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByRoom:  # pytest-xdist tells no types
    """Divide the tests by room (groups by marker don't reach pytest-xdist 3.8 under pytest 9.2)."""
    return ByRoom(config, log)


@pytest.fixture(autouse=True)
def warnings_are_logged() -> None:
    """Undo what a framework does to all others: importing OpenVINO raises the root logger's level to ERROR."""
    logging.root.setLevel(logging.WARNING)


TABLES = pytest.StashKey[dict[str, list[str]]]()  # what tests want shown at the end, by its heading


def pytest_configure(config: pytest.Config) -> None:
    """Begin with no counts of requests, and nothing to show."""
    config.stash[REPORT] = Report()
    config.stash[TABLES] = {}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the counts over, where this is one of several processes."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["requests"] = session.config.stash[REPORT].rows
        output["lines"] = session.config.stash[REPORT].lines
        output["tables"] = session.config.stash[TABLES]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # a process of pytest-xdist, which tells no types
    """Take the counts and tables of such a process."""
    told = getattr(node, "workeroutput", {})
    node.config.stash[REPORT].rows += told.get("requests", [])
    node.config.stash[REPORT].lines += told.get("lines", [])
    node.config.stash[TABLES].update(getattr(node, "workeroutput", {}).get("tables", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show what became of the requests, and write it where FERRYMAN_CHAOS_REPORT says."""
    for heading, lines in config.stash[TABLES].items():
        terminalreporter.section(heading)
        for line in lines:
            terminalreporter.write_line(line)
    report = config.stash[REPORT]
    if report.lines:
        terminalreporter.section("what was done to boxes")
        for line in report.lines:
            terminalreporter.write_line(line)
    if not report.rows:
        return
    terminalreporter.section("what became of the requests")
    for line in report.table():
        terminalreporter.write_line(line)
    if path := os.environ.get("FERRYMAN_CHAOS_REPORT"):
        report.write(Path(path))
