"""Write files so that a kill or a power cut at any moment leaves the old one or the new one, whole."""

import contextlib
import errno
import os
from pathlib import Path

_NO_SYNC = (errno.EINVAL, errno.ENOTSUP)  # of a file system that syncs no folders


def write_whole(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Replace a file's content; it is on the disk when this returns. For one writer at a time.

    `mode` is what the umask leaves of it. Raises OSError, at which the old content is still there. What a kill leaves
    beside it, `.NAME.new`, is written over the next time.
    """
    unfinished = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with open(os.open(unfinished, flags, mode), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, path)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk; a file system that can't is left alone. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)
