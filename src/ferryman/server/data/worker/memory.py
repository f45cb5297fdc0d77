"""Memory that was freed, and that the C library keeps for later."""

import ctypes
from contextlib import suppress


def give_back_memory() -> None:
    """Return it to the machine, where the C library can; takes milliseconds, in which other threads may run."""
    with suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
