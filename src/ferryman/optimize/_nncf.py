"""Have NNCF, without what it does to the process around it."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from ferryman.core.privacy import forbid_telemetry


def import_nncf() -> Any:  # the module
    """Import NNCF, which makes its own class that of every logger created later, and put that back."""
    forbid_telemetry()
    before = logging.getLoggerClass()
    try:
        import nncf
    finally:
        logging.setLoggerClass(before)
    return nncf


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep NNCF's log and progress bars from the terminal, as long as it works."""
    import rich
    from nncf.common.logging import nncf_logger

    console = rich.get_console()
    level, quiet = nncf_logger.level, console.quiet
    nncf_logger.setLevel(logging.CRITICAL)
    console.quiet = True
    try:
        yield
    finally:
        nncf_logger.setLevel(level)
        console.quiet = quiet
