"""One writer a folder: whoever holds the lock. A killed writer's lock is gone with it."""

import fcntl
import os
import time
from pathlib import Path

from ferryman.core.errors import UserError

LOCK = ".writer"
_TRIES = 5


class Claim:
    """Hold a folder as its only writer until `release`."""

    def __init__(self, folder: Path) -> None:
        """Take the lock; raises UserError that names who has it, or why the folder can't be used."""
        path = folder / LOCK
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise UserError(
                f"{folder} can't hold records: {error.strerror}", hint="name a folder that this user may write"
            ) from None
        if not self._locked():
            holder = os.pread(self._file, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise UserError(
                f"{folder} has a writer of records already: process {holder}",
                hint="give each server a folder of its own, or stop that one",
            ) from None
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode("ascii"), 0)
        except OSError:  # a full disk: the lock holds without the name of its holder
            pass

    def _locked(self) -> bool:
        for pause_s in (*[0.05] * _TRIES, 0.0):  # `writer_of` holds it for a moment, too
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                time.sleep(pause_s)
            else:
                return True
        return False

    def release(self) -> None:
        """Let another process write."""
        os.close(self._file)


def writer_of(folder: Path) -> str:
    """Give the process id of the folder's writer, or "" where nobody writes now."""
    try:
        opened = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.pread(opened, 32, 0).decode("ascii", "replace").strip() or "unknown"
    finally:
        os.close(opened)
    return ""
