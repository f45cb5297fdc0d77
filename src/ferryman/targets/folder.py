"""A folder of rendered files: written file by file so that none is ever half there."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ferryman.core.errors import UserError


def read_files(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Give the text of those of these files that are there, by name; what else lies there is nobody's concern."""
    found = {name: folder / name for name in names if (folder / name).is_file()}
    return {name: path.read_text(encoding="utf-8", errors="replace") for name, path in found.items()}


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
