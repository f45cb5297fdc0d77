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


@cache
def describe_processor() -> tuple[str, str]:
    """Give the processor and what it can do: machine code that is made for one may not run on another.

    The name alone doesn't tell: a virtual machine may hide instructions that its processor has.
    """
    return _processor(), _listed("flags") or _listed("Features")


def _processor() -> str:
    return _listed("model name") or platform.processor() or platform.machine()


def _listed(key: str) -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
