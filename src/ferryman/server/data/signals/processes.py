"""What the kernel knows of a server's processes: CPU time and memory of the whole tree."""

import os
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
