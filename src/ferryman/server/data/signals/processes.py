"""What the kernel knows of a server's processes: CPU time and memory of the whole tree."""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_UTIME = 11  # its place in /proc/PID/stat after the name, which may hold anything


@dataclass(frozen=True, slots=True)
class Tree:
    """Hold how many processes live, and the CPU seconds of these and of those that ended and were waited for."""

    cpu_s: float
    processes: int


def tree(root: int | None = None) -> Tree:
    """Look at a process (default: this one) and what it started from its main thread, directly or not."""
    ticks, seen = 0, 0
    waiting = [os.getpid() if root is None else root]
    while waiting:
        pid = waiting.pop()
        try:
            fields = _stat(pid)
            children = (_PROC / f"{pid}/task/{pid}/children").read_text()
        except (OSError, IndexError):
            continue  # it ended while we looked
        ticks += sum(int(field) for field in fields[_UTIME : _UTIME + 4])  # own and waited-for children's
        seen += 1
        waiting.extend(int(child) for child in children.split())
    return Tree(ticks / _TICKS, seen)


class CpuSpent:
    """Add up the CPU time of processes that come and go, such as the workers of one version.

    What a process took between the last look at it and its end is lost. Threads may look at once.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._known: dict[int, float] = {}
        self._looking = threading.Lock()

    def look(self, pids: Callable[[], Sequence[int]]) -> float:
        """Give the CPU seconds so far of all that were ever looked at; `pids` tells those that live."""
        with self._looking:
            now = {pid: cpu_s for pid in pids() if (cpu_s := cpu_seconds(pid)) is not None}
            for pid, cpu_s in now.items():
                before_s = self._known.get(pid, 0.0)
                self._seconds += cpu_s - before_s if cpu_s >= before_s else cpu_s  # a number may be given again
            self._known = now
            return self._seconds


def cpu_seconds(pid: int) -> float | None:
    """Give the CPU time of a process and its threads; None where it is gone."""
    try:
        return sum(int(field) for field in _stat(pid)[_UTIME : _UTIME + 2]) / _TICKS
    except (OSError, IndexError, ValueError):
        return None


def resident_bytes(pid: int) -> int:
    """Give a process's memory, shared pages included; 0 where it is gone."""
    try:
        return int((_PROC / f"{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def open_files() -> int:
    """Give how many files and sockets this process holds."""
    try:
        return len(os.listdir(_PROC / "self/fd"))
    except OSError:
        return 0


def _stat(pid: int) -> list[str]:
    return (_PROC / f"{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
