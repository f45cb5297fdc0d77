"""Engines that are built on the device, and a plug-in of them that goes wrong on demand.

The file that MISBUILDING names tells it how, as JSON: `build` is crash, hang, fail, surprise, full (no space is left)
or wait (until it says something else); `load` is crash; `off_by` is added to every answer; `no_device`; `device` is the
device's name; an input of `dies_of` (13) ends the process, one of `sticks_at` (14)
fails, as all do after it. FILE.builds gets a line (pid, niceness) for each build.
"""

import json
from pathlib import Path

PLUGIN = Path(__file__).parent / "plugin"


class Misbuilding:
    """Tell the plug-in what to do, and know what it did."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def tell(self, **deeds: object) -> None:
        """Replace what it was told before, at once."""
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps(deeds))
        partial.replace(self._file)

    @property
    def builds(self) -> list[tuple[int, int]]:
        """Give process id and niceness of each build that was begun."""
        count = self._file.with_suffix(".builds")
        lines = count.read_text().splitlines() if count.exists() else []
        return [(int(pid), int(nice)) for pid, nice in (line.split() for line in lines)]
