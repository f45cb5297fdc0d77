"""Describe the machine that measures: figures of one say nothing about another."""

import platform
from functools import cache
from pathlib import Path

from ferryman.core.runtime import available_cores


@cache
def describe_machine() -> dict[str, str]:
    """Give the processor, the cores that may be used, the system and Python's version."""
    return {
        "cpu": _processor(),
        "cores": str(available_cores()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
