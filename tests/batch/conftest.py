"""One bundle of a table's model for all."""

from pathlib import Path

import pytest

from ferryman.core.bundle import Bundle
from tests.batch.making import Row, bundle_elec, elec_rows


@pytest.fixture(scope="session")
def elec(shared_data: Path) -> list[Row]:
    return elec_rows(shared_data, 0, 6000)


@pytest.fixture(scope="session")
def bundle(elec: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle_elec(tmp_path_factory.mktemp("elec") / "bundle", elec[:1000])
