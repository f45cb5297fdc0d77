"""Processors that are slowed down: by heat, by too little power, or by the limit of a container.

Sources: Linux's `thermal_throttle` counters (Intel), the Raspberry Pi's `get_throttled` word, and `cpu.stat` of control
groups (Documentation/admin-guide/cgroup-v2.rst; version 1 has the same counters).
"""

import math
from pathlib import Path
from typing import NamedTuple

from ferryman.core.cgroup import cpu_periods

_PI_NOW = 0b1111  # under voltage, frequency capped, throttled, near the limit of heat; higher bits are of the past

_COOL = 6  # looks without a new event: one that lasts is counted once, or when it ends


class Throttled(NamedTuple):
    """Say how much of the time since the last look the processors were slowed down.

    `heat` is 1 or 0, 1 for five looks more after an event; `quota` the share of the periods of a container's CPU limit
    in which it was used up. NaN where the machine doesn't tell, and at the first look.
    """

    heat: float
    quota: float


class Throttle:
    """Look again and again; each look reads a few small files. For one thread."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._heat: int | None = None
        self._cool = _COOL
        self._periods: dict[Path, tuple[int, int]] | None = None

    def look(self) -> Throttled:
        """Give what happened since the last look."""
        return Throttled(self._look_at_heat(), self._look_at_quota())

    def _look_at_heat(self) -> float:
        for path in self._root.glob("sys/devices/platform/soc/*firmware/get_throttled"):
            if (word := _number(path, 16)) is not None:
                return float(bool(word & _PI_NOW))
        counters = self._root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_*")
        counts = [count for path in counters if (count := _number(path, 10)) is not None]
        before, self._heat = self._heat, sum(counts) if counts else None
        if before is None or self._heat is None:
            return math.nan
        self._cool = 0 if self._heat > before else self._cool + 1
        return float(self._cool < _COOL)

    def _look_at_quota(self) -> float:
        before, self._periods = self._periods, cpu_periods(self._root)
        if before is None:
            return math.nan
        shares = []
        for group, (periods, slowed) in self._periods.items():
            periods_before, slowed_before = before.get(group, (0, 0))
            passed = periods - periods_before
            shares.append((slowed - slowed_before) / passed if passed > 0 else 0.0)
        return max(shares, default=math.nan)


def _number(path: Path, base: int) -> int | None:
    try:
        return int(path.read_text(), base)
    except (OSError, ValueError):
        return None
