"""What the tests of both targets on Google Cloud share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.targets.google_cloud import Cloud, running_cloud
from tests.targets.google_run import add_run
from tests.targets.google_vertex import add_vertex

HOST = "us-central1-docker.pkg.dev/street-project/models/street"
IMAGE, NEXT = f"{HOST}@sha256:{'a' * 64}", f"{HOST}@sha256:{'c' * 64}"


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with running_cloud(tmp_path) as (cloud, account):
        add_run(cloud)
        add_vertex(cloud)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
        monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
        yield cloud
