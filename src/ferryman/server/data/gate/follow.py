"""Follow a file that says who may what: read again when it changes, and what is broken changes nothing."""

import logging
import os
import threading
import time
from collections.abc import Callable
from math import inf
from pathlib import Path

from ferryman.core.errors import ConfigError

POLL_S = 1.0
GLANCE_S = 0.1
_Print = tuple[int, int, int, int]
_log = logging.getLogger("ferryman.server.gate")


class Followed:
    """Hand a file to `take` now, and again whenever it has changed; `take` says in words what it holds.

    Between `start` and `close` a thread of its own looks. Raises ConfigError, as `take` does, where the file can't be
    taken at first; later that is logged, and what was taken before stays.
    """

    def __init__(self, path: Path, take: Callable[[Path], str], *, poll_s: float = POLL_S) -> None:
        self._path, self._take, self._poll_s = path, take, poll_s
        self._print = _fingerprint(path)
        take(path)
        self._complaint = ""  # what was said last of a file that can't be taken
        self._glanced_s = -inf
        self._looking = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"follow {path.name}", daemon=True)

    def start(self) -> None:
        """Begin to look for changes."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def look(self) -> None:
        """Take the file now if it has changed."""
        with self._looking:
            self._look()

    def glance(self) -> None:
        """Do so, but never wait for one who looks already, and do it at most every GLANCE_S."""
        now_s = time.monotonic()
        if now_s - self._glanced_s < GLANCE_S or not self._looking.acquire(blocking=False):
            return
        self._glanced_s = now_s
        try:
            self._look()
        finally:
            self._looking.release()

    def _look(self) -> None:
        found = _fingerprint(self._path)
        if found == self._print:
            self._complaint = ""
            return
        try:
            held = self._take(self._path)
        except ConfigError as error:
            self._complain(str(error))
        except Exception as error:  # noqa: BLE001 - the thread that looks, and who glances, must live on
            self._complain(f"{self._path} can't be taken: {error!r}")
        else:
            # Only now: what could not be read for a moment is tried until it can.
            self._print, self._complaint = found, ""
            _log.info("read %s again: %s", self._path, held)

    def _complain(self, words: str) -> None:
        if words != self._complaint:
            self._complaint = words
            _log.warning("%s; what was good before stays good", words)

    def _watch(self) -> None:
        while not self._stopping.wait(self._poll_s):
            self.look()


def _fingerprint(path: Path) -> _Print | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
