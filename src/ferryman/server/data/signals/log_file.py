"""A file that a thread of its own appends to, so that a slow or full disk holds nobody up."""

import logging
import os
import sys
import threading
from pathlib import Path
from queue import SimpleQueue

from ferryman.core.errors import UserError

_MOST_WAITING = 64  # chunks; what comes while the disk is slower stays with the caller
_log = logging.getLogger("ferryman.server.access_log")


class LogFile:
    """Append chunks to a path, or to stderr for "-"; chunks that can't be written are counted in `lost`."""

    def __init__(self, target: str | Path) -> None:
        self._path = None if str(target) == "-" else Path(target)
        try:
            self._fd = self._opened()
        except OSError as error:
            raise UserError(
                f"can't write the access log {target}: {error.strerror}", hint="name another file"
            ) from None
        self._chunks: SimpleQueue[tuple[bytes, int] | None] = SimpleQueue()
        self._must_reopen = threading.Event()
        self._is_torn = False  # the last write ended inside of a line
        self._is_failing = False
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self.lost = 0

    @property
    def is_behind(self) -> bool:
        """Tell that the disk is slower than the lines come."""
        return self._chunks.qsize() >= _MOST_WAITING

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def write(self, chunk: bytes, lines: int) -> None:
        """Append a chunk of so many whole lines, soon."""
        self._chunks.put((chunk, lines))

    def reopen(self) -> None:
        """Open the path anew before the next chunk."""
        self._must_reopen.set()

    def close(self, timeout_s: float) -> None:
        """Write what waits, for `timeout_s` at most; what can't be written by then is lost."""
        self._chunks.put(None)
        if self._thread.ident is None:
            self._thread.start()  # never started: what waits is written all the same
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._close_file()

    def _run(self) -> None:
        while (item := self._chunks.get()) is not None:
            if self._must_reopen.is_set():
                self._must_reopen.clear()
                self._reopen_now()
            chunk, lines = item
            if not self._append(chunk):
                self.lost += lines

    def _append(self, chunk: bytes) -> bool:
        left = memoryview(b"\n" + chunk if self._is_torn else chunk)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
                self._is_torn = True
        except OSError as error:
            if not self._is_failing:
                _log.warning("the access log can't be written: %s; requests are served on", error.strerror)
            self._is_failing = True
            return False
        self._is_failing = self._is_torn = False
        return True

    def _reopen_now(self) -> None:
        try:
            opened = self._opened()
        except OSError as error:
            _log.warning("the access log can't be opened again: %s; the old file is used on", error.strerror)
            return
        self._close_file()
        self._fd, self._is_torn = opened, False

    def _opened(self) -> int:
        if self._path is None:
            return sys.stderr.fileno()
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _close_file(self) -> None:
        if self._path is not None:
            os.close(self._fd)
