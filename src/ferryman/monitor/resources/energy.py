"""Energy that processors take, as they count it themselves (Linux: Documentation/power/powercap/powercap.rst)."""

import math
import re
from pathlib import Path

_ZONE = re.compile(r"[a-z-]*rapl:\d+")  # those below it (":0:1") are parts of it
_PACKAGE = "package"  # as its name begins; "psys" is the whole board, packages included
_MICRO = 1e-6


class Energy:
    """Add up joules since the first look. For one thread.

    The counters of all packages, each of which begins anew beyond its largest value. Most kernels let only root read
    them: `why` says what was missing.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._folder = root / "sys/class/powercap"
        self._before: dict[Path, int] = {}
        self._joules = 0.0
        self.why = ""

    def look(self) -> float:
        """Give the joules since the first look; NaN where they can't be read."""
        now = {}
        for package in self._packages():
            try:
                now[package] = int((package / "energy_uj").read_text())
                self._joules += self._since(package, now[package]) * _MICRO
            except (OSError, ValueError) as error:
                self.why = f"{package / 'energy_uj'} can't be read: {getattr(error, 'strerror', None) or error}"
        self._before = now
        return self._joules if now else math.nan

    def _packages(self) -> list[Path]:
        try:
            zones = sorted(each for each in self._folder.iterdir() if _ZONE.fullmatch(each.name))
            return [zone for zone in zones if (zone / "name").read_text().startswith(_PACKAGE)]
        except OSError:
            self.why = f"{self._folder}: this machine doesn't count its energy"
            return []

    def _since(self, package: Path, now: int) -> int:
        before = self._before.get(package, now)
        return now - before if now >= before else now - before + int((package / "max_energy_range_uj").read_text())
