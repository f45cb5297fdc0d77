"""How hot the machine is, as the kernel tells (Linux: Documentation/driver-api/thermal/sysfs-api.rst)."""

import math
from pathlib import Path


def hottest_c(root: Path = Path("/")) -> float:
    """Give the degrees Celsius of the hottest part that the kernel knows of; NaN where it tells none."""
    found = []
    for zone in (root / "sys/class/thermal").glob("thermal_zone*/temp"):
        try:
            found.append(int(zone.read_text()) / 1000)
        except (OSError, ValueError):
            continue
    return max(found, default=math.nan)
