"""Start a server on one core, and account for every process that comes of it."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_MARK = "FERRYMAN_BENCH_RUN"
_TICKS = os.sysconf("SC_CLK_TCK")
_STOP_S = 15.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Hold what a tree keeps in memory, in megabytes of 10^6 bytes: `pss_mb` counts shared pages once."""

    rss_mb: float
    pss_mb: float
    processes: int


class Tree:
    """Run a command on some cores; its tree is every process that inherited its mark, daemons included."""

    def __init__(self, command: Sequence[str], *, cores: str, environment: Mapping[str, str], log: Path) -> None:
        self._mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self.log = log
        marked = {**environment, _MARK: self._mark}
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["taskset", "-c", cores, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=marked,
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        """Say whether the process that was started is there."""
        return self._process.poll() is None

    def cpu_s(self) -> float:
        """Give user and system time of the tree so far, children that ended and were waited for included."""
        return sum(_cpu_s(pid) for pid in self._pids())

    def memory(self) -> Memory:
        """Add up the resident and the proportional set sizes."""
        found = [sizes for pid in self._pids() if (sizes := _sizes(pid)) is not None]
        return Memory(sum(rss for rss, _ in found) / 1e6, sum(pss for _, pss in found) / 1e6, len(found))

    def last_words(self, characters: int = 600) -> str:
        """Give the end of what it printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-characters:].strip()

    def stop(self) -> None:
        """End it: asked first, then without asking; nothing of the tree is left."""
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
        deadline = time.monotonic() + _STOP_S
        while (left := self._pids()) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.poll()
            time.sleep(0.05)
        self._process.wait()

    def _pids(self) -> list[int]:
        mark = f"{_MARK}={self._mark}".encode()
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _has_mark(pid, mark)]


def _has_mark(pid: int, mark: bytes) -> bool:
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # ended meanwhile, or another user's
        return False


def _cpu_s(pid: int) -> float:
    try:
        # Its own clock counts nanoseconds, where /proc only has hundredths of a second: the kernel makes the clock's
        # number of the process's, by this rule. The children's share is only in /proc; the name before the last
        # bracket may hold blanks, and cutime and cstime are fields 16 and 17.
        own = time.clock_gettime((~pid << 3) | 2)
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return own + sum(map(int, fields[13:15])) / _TICKS


def _sizes(pid: int) -> tuple[float, float] | None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("Rss:", "Pss:"))}
    return found.get("Rss", 0), found.get("Pss", 0)
