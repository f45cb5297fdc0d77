"""What the figures were measured on."""

import importlib.metadata
import os
import platform
from pathlib import Path


def describe() -> dict[str, str]:
    """Name the processor, its cores, the system and Python."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "processor": model,
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def version_of(package: str) -> str:
    """Give a package's version here; "" where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
