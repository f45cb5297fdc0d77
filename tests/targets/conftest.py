"""What the tests of targets share: one API server for all that apply."""

from collections.abc import Iterator

import pytest

from tests.chaos.counts import REPORT, Report
from tests.targets.real_api import Api, running_api


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("cluster")) as api:
        yield api


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Report:
    """Give what collects the counts of requests, for the end of the run."""
    return request.config.stash[REPORT]
