"""Put a folder in another one's place so that a crash at any moment leaves the old one or the new one."""

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ferryman.core.durable import sync_folder
from ferryman.core.errors import BundleError
from ferryman.core.scratch import clear_leftovers, leftovers, scratch_folder, try_lock

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_PARTIAL = ".partial"
_ASIDE = ".aside"


@contextmanager
def staged_folder(destination: Path) -> Iterator[Path]:
    """Give an empty folder beside `destination` and swap it in at the end; an error leaves everything as it was.

    What dead processes left beside `destination` is cleared away first. Raises BundleError where the disk is full.
    """
    parent, prefix = destination.parent, _prefix_of(destination)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        recover(destination)
        clear_leftovers(parent, prefix=prefix, suffix=_ASIDE)
        # What goes at the end is the old bundle after an exchange, and the half-written new one after an error.
        with scratch_folder(parent, prefix=prefix, suffix=_PARTIAL) as staged:
            staged.chmod(0o755)
            yield staged
            sync_tree(staged)
            _swap(staged, destination)
            sync_folder(parent)
    except OSError as error:
        raise explain(error, destination) from error


def recover(destination: Path) -> None:
    """Bring back the folder that a killed process had moved aside (only where folders can't be exchanged)."""
    if os.path.lexists(destination):
        return
    for aside in leftovers(destination.parent, prefix=_prefix_of(destination), suffix=_ASIDE):
        if (lock := try_lock(aside)) is not None:
            os.rename(aside, destination)
            os.close(lock)
            return


def sync_tree(folder: Path) -> None:
    """Have every file and folder on the disk, not only in its cache."""
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync(Path(root, name), os.O_RDONLY)
        sync_folder(Path(root))


def replace_file(staged: Path, destination: Path) -> None:
    """Put a finished file in its place, durably."""
    _sync(staged, os.O_RDONLY)
    os.replace(staged, destination)
    sync_folder(destination.parent)


def explain(error: OSError, destination: Path) -> BundleError:
    """Turn what the system says into a BundleError that says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return BundleError(
            f"{destination} can't be written: the disk is full ({error.strerror})", hint="free space; nothing was kept"
        )
    return BundleError(
        f"{destination} can't be written: {error.strerror or error}: {error.filename or destination.parent}",
        hint="nothing was kept",
    )


def _prefix_of(destination: Path) -> str:
    return f".{destination.name}."


def _swap(staged: Path, destination: Path) -> None:
    if not destination.exists():
        os.rename(staged, destination)
    elif not _exchange(staged, destination):
        _swap_in_two_steps(staged, destination)


def _exchange(staged: Path, destination: Path) -> bool:
    """Swap two folders' names in one step; False where the system or the file system can't."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    outcome = renameat2(_AT_FDCWD, os.fsencode(staged), _AT_FDCWD, os.fsencode(destination), _RENAME_EXCHANGE)
    if outcome == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(destination))


def _swap_in_two_steps(staged: Path, destination: Path) -> None:
    aside = staged.with_suffix(_ASIDE)
    lock = try_lock(destination)
    os.rename(destination, aside)
    try:
        os.rename(staged, destination)
    except OSError:
        os.rename(aside, destination)
        raise
    finally:
        if lock is not None:
            os.close(lock)
    shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
