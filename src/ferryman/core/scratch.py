"""A folder to work in that others leave alone, and that goes even where its process is killed."""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = "/dev/shm"  # noqa: S108 - only where nothing else can be written
_RANDOM = "[a-z0-9_]+"  # what tempfile puts between prefix and suffix


def choose_temporary_folder() -> None:
    """Have temporary files in memory (/dev/shm) where no usual place can be written, as in a read-only container."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        if os.access(_MEMORY, os.W_OK):
            os.environ["TMPDIR"] = tempfile.tempdir = _MEMORY  # other programs look there, too


def user_cache() -> Path:
    """Give the user's cache folder; a temporary one for a user without a home, as a container's may be."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser().absolute()
    except RuntimeError:  # neither HOME nor a line in the list of users
        choose_temporary_folder()
        return Path(tempfile.tempdir or _MEMORY) / f"ferryman-{os.getuid()}"


@contextmanager
def scratch_folder(parent: Path, *, prefix: str, suffix: str = "") -> Iterator[Path]:
    """Give an empty, locked folder below `parent` that goes at the end; clears what dead processes left of such first.

    `prefix` and `suffix` tell these folders from everything else in `parent`.
    """
    clear_leftovers(parent, prefix=prefix, suffix=suffix)
    folder, lock = _make_locked(parent, prefix, suffix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def clear_leftovers(parent: Path, *, prefix: str, suffix: str = "") -> None:
    """Remove the scratch folders whose processes are dead."""
    for leftover in leftovers(parent, prefix=prefix, suffix=suffix):
        if (lock := try_lock(leftover)) is not None:
            shutil.rmtree(leftover, ignore_errors=True)
            os.close(lock)


def leftovers(parent: Path, *, prefix: str, suffix: str = "") -> list[Path]:
    """Give what has the name of such a folder, in use or not; prefix and suffix are taken as they are, no patterns."""
    name = re.compile(re.escape(prefix) + _RANDOM + re.escape(suffix))
    try:
        return sorted(child for child in parent.iterdir() if name.fullmatch(child.name))
    except OSError:
        return []  # what can't be listed can't be cleared, and whoever writes there is told so


def try_lock(folder: Path) -> int | None:
    """Lock a folder for as long as the descriptor is open; the system lets go when the process dies."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == folder.stat().st_ino:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _make_locked(parent: Path, prefix: str, suffix: str) -> tuple[Path, int]:
    # Another process may take a folder for a leftover between its making and its locking: then make another one.
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=parent))
        if (lock := try_lock(folder)) is not None:
            return folder, lock
