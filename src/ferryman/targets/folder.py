"""A folder of rendered files: read whole, written file by file so that none is ever half there."""

import os
from collections.abc import Mapping
from pathlib import Path

from ferryman.core.errors import UserError


def read_folder(folder: Path) -> dict[str, str]:
    """Give the text of each file by its path in the folder; nothing where it isn't there."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8", errors="replace") for path in files}


def write_folder(folder: Path, files: Mapping[str, str]) -> None:
    """Write files, each whole or not at all; raises UserError that names the one that can't be written."""
    for name, text in files.items():
        path = folder / name
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                unfinished.write_text(text, encoding="utf-8")
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"{path} can't be written: {error.strerror or error}", hint="look at who may write there, and the room"
            ) from None
