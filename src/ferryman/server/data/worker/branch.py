"""A process that was forked from this one, with what `subprocess.Popen` offers for those that were started."""

import os
import signal
import subprocess
import time
from contextlib import suppress

_LOOK_S = 0.002
_STANDARD_ERRORS = 2


class Branch:
    """Hold a forked process; only its owner waits for it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """Give its exit code, minus the signal's number where one killed it; None while it runs."""
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # SIGCHLD is ignored here: it has ended, and the system keeps no code
                pid, status = self.pid, 0
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; raises subprocess.TimeoutExpired."""
        until_s = time.monotonic() + timeout if timeout is not None else float("inf")
        while (code := self.poll()) is None:
            if time.monotonic() > until_s:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            time.sleep(_LOOK_S)
        return code

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            if self.poll() is None:
                os.kill(self.pid, signal.SIGKILL)


def fill_standard_files() -> None:
    """Open /dev/null where standard input, output or errors are closed: the next socket would get their number."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERRORS:
        pass
    os.close(number)


def count_threads() -> int:
    """Count this process's threads, those of C libraries among them; 0 where the system doesn't tell."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0
