"""Wait for what another thread or process does."""

import time
from collections.abc import Callable


def wait_for(is_so: Callable[[], bool], *, within_s: float = 30.0) -> None:
    """Return once it is so; fails after the deadline."""
    deadline_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline_s, f"not so within {within_s} s"
        time.sleep(0.02)
