"""What one isolated step may take of the machine, and what it takes."""

import os
from dataclasses import dataclass
from pathlib import Path

from ferryman.core.cgroup import memory_limit_bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """Bound one request: seconds, and the resident memory of all processes (0: four fifths of what there is).

    `is_fixed` says that no setting of the user's gives more.
    """

    time_s: float = 1800.0
    memory_mb: int = 0
    is_fixed: bool = False

    @property
    def memory_bytes(self) -> int:
        """Give the bound in bytes."""
        if self.memory_mb:
            return self.memory_mb * 1_000_000
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return int(0.8 * min(there, memory_limit_bytes() or there))


def held_bytes(leader: int, *, proc: Path = Path("/proc")) -> int:
    """Give the resident memory of a process and of all that descend from it; 0 where the system doesn't tell."""
    children: dict[int, list[int]] = {}
    pages: dict[int, int] = {}
    for folder in proc.iterdir() if proc.is_dir() else ():
        if not folder.name.isdigit():
            continue
        try:
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            parent, resident = int(after_name[1]), int(after_name[21])
        except (OSError, ValueError, IndexError):
            continue  # it ended while we looked
        pid = int(folder.name)
        pages[pid] = resident
        children.setdefault(parent, []).append(pid)
    total, open_ends = 0, [leader]
    while open_ends:
        pid = open_ends.pop()
        total += pages.pop(pid, 0)
        open_ends += children.pop(pid, [])
    return total * os.sysconf("SC_PAGE_SIZE")
