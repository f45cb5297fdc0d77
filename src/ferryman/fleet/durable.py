"""Write files and links so that a power cut at any moment leaves the old one or the new one, whole."""

import errno
import os
import shutil
from pathlib import Path

from ferryman.core.durable import sync_folder, write_whole
from ferryman.core.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_durably(path: Path, payload: bytes, *, mode: int = 0o644) -> None:
    """Replace a file's content; it is on the disk when this returns. Raises UserError that names the file."""
    try:
        write_whole(path, payload, mode=mode)
    except OSError as error:
        raise explain(error, path) from error


def point_durably(link: Path, target: str) -> None:
    """Make a symbolic link lead to `target`, in one step; it does so for good when this returns."""
    unfinished = link.with_name(f".{link.name}.new")
    try:
        unfinished.unlink(missing_ok=True)
        os.symlink(target, unfinished)
        os.replace(unfinished, link)
        sync_folder(link.parent)
    except OSError as error:
        raise explain(error, link) from error


def discard(folder: Path) -> None:
    """Remove a folder: it loses its name first, so that nobody finds half of it."""
    gone = folder.with_name(f".{folder.name}.gone")
    try:
        shutil.rmtree(gone, ignore_errors=True)  # what a cut left of the last time
        if folder.exists():
            os.rename(folder, gone)
            sync_folder(folder.parent)
            shutil.rmtree(gone)
    except OSError as error:
        raise explain(error, folder) from error


def explain(error: OSError, path: Path) -> UserError:
    """Turn what the system says into a UserError that says what to do."""
    if error.errno in _FULL:
        return UserError(f"{path} can't be written: the disk is full", hint="free space; what was there is as it was")
    return UserError(
        f"{error.filename or path} can't be written: {error.strerror or error}", hint="look at who may write there"
    )
