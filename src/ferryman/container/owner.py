"""Name what a run makes in a container engine, so that a later one can tell whose it is and remove what was left."""

import hashlib
import os
import socket
from dataclasses import dataclass
from itertools import count
from pathlib import Path

LABEL = "ferryman.verify.owner"
PREFIX = "ferryman-verify"
_NUMBERS = count(1)


@dataclass(frozen=True, slots=True)
class Owner:
    """Hold which process made something: a pid alone says little, as pids come again."""

    machine: str
    boot: str
    pid: int
    start: int  # clock ticks after boot

    def __str__(self) -> str:
        return f"{self.machine}-{self.boot}-{self.pid}-{self.start}"

    @classmethod
    def parse(cls, text: str) -> "Owner | None":
        """Read what `str` wrote; None for anything else."""
        parts = text.split("-")
        if len(parts) != 4 or not all(part.isdigit() for part in parts[2:]):
            return None
        return cls(parts[0], parts[1], int(parts[2]), int(parts[3]))

    @classmethod
    def me(cls) -> "Owner":
        """Give the owner that this process is."""
        return cls(_machine(), _boot(), os.getpid(), _start_of(os.getpid()) or 0)

    def is_gone(self) -> bool:
        """Tell whether that process has surely ended; another machine's is never known to have."""
        here = self.me()
        if self.machine != here.machine:
            return False
        return self.boot != here.boot or _start_of(self.pid) != self.start


def new_name() -> str:
    """Give a name that no other container of this engine has."""
    return f"{PREFIX}-{Owner.me()}-{next(_NUMBERS)}"


def owner_of(name: str) -> Owner | None:
    """Give whose container it is, by its name; None for a name that `new_name` doesn't give."""
    return Owner.parse(name.removeprefix(f"{PREFIX}-").rpartition("-")[0]) if name.startswith(PREFIX) else None


def _machine() -> str:
    """Name what our pids belong to: containers of one image may share a machine-id, and an engine's socket."""
    known = (_read("/etc/machine-id"), socket.gethostname(), _link("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:12]


def _boot() -> str:
    return _read("/proc/sys/kernel/random/boot_id").replace("-", "")[:12] or "unknown"


def _start_of(pid: int) -> int | None:
    """Give when a process started, None where there is none (proc(5), field 22 of stat)."""
    stat = _read(f"/proc/{pid}/stat")
    return int(stat.rpartition(")")[2].split()[19]) if stat else None


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
