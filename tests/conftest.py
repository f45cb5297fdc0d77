"""Fixtures and order for the whole suite."""

import logging
import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


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
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(autouse=True)
def warnings_are_logged() -> None:
    """Undo what a framework does to all others: importing OpenVINO raises the root logger's level to ERROR."""
    logging.root.setLevel(logging.WARNING)
