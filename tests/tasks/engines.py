"""Run tests with each of what decodes pictures."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ferryman.tasks.pixels import VARIABLE, picture_engine


@contextmanager
def pictures_with(name: str) -> Iterator[None]:
    """Decode and resize with this engine meanwhile."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(VARIABLE, name)
        picture_engine.cache_clear()
        try:
            yield
        finally:
            picture_engine.cache_clear()
