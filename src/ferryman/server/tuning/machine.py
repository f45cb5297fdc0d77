"""Name the machine that measured: a choice made on one says little about another."""

import platform

from ferryman.core.runtime import available_cores


def describe_machine() -> dict[str, str]:
    """Give the cores that may be used, the system and Python's version."""
    return {
        "cores": str(available_cores()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
