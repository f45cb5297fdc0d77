"""What is to be scored: rows of a table or files of a folder, in a fixed order, with a name for their content."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ferryman.batch.chunk import Cells
from ferryman.core.errors import DataError, InputError
from ferryman.tasks.files import PICTURE_SUFFIXES, find_files

FILE = "file"
"""The column that names the file of an answer."""
PLACE = ""
"""Where that file lies; not in the output."""


class Source(Protocol):
    """Give rows in a fixed order."""

    @property
    def digest(self) -> str:
        """Name the content: other rows, other digest."""

    @property
    def total(self) -> int | None:
        """Give how many rows there are; None where only reading all of them tells."""

    @property
    def columns(self) -> Mapping[str, str]:
        """Give the columns' names and SQL types."""

    def rows(self, start: int) -> Iterator[Cells]:
        """Give the rows from one on."""


@dataclass(frozen=True, slots=True)
class Files:
    """Be files, each a row with its name; `places` are where they lie."""

    names: tuple[str, ...]
    places: tuple[Path, ...]
    digest: str

    @property
    def total(self) -> int | None:
        """Count the files."""
        return len(self.names)

    @property
    def columns(self) -> Mapping[str, str]:
        """Give the one column."""
        return {FILE: "VARCHAR"}

    def rows(self, start: int) -> Iterator[Cells]:
        """Give name and place of each file from one on."""
        for name, place in zip(self.names[start:], self.places[start:], strict=True):
            yield {FILE: name, PLACE: str(place)}


def open_files(given: str) -> Files:
    """Take a folder (its pictures, at any depth), a glob, one picture, or a .txt or .lst file that names one a line.

    The content is named by names, sizes and times of change: pictures are read once only. Raises DataError, InputError.
    """
    path = Path(given)
    if path.is_dir():
        found = sorted(
            (one for one in path.rglob("*") if one.suffix.lower() in PICTURE_SUFFIXES and one.is_file()),
            key=lambda one: one.relative_to(path).as_posix(),
        )
        if not found:
            raise DataError(
                f"folder {given} holds no pictures", hint=f"known are {', '.join(sorted(PICTURE_SUFFIXES))}"
            )
        named = [(one.relative_to(path).as_posix(), one) for one in found]
    elif path.suffix.lower() in (".txt", ".lst"):
        named = _listed(path)
    else:
        named = [(str(one), one) for one in find_files(given, Path(), key="INPUT")]
    total = hashlib.sha256()
    for name, place in named:
        try:
            stat = place.stat()
            total.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        except OSError:
            total.update(f"{name}\0missing\n".encode("utf-8", "surrogateescape"))
    return Files(tuple(name for name, _ in named), tuple(place for _, place in named), total.hexdigest())


def _listed(path: Path) -> list[tuple[str, Path]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}", hint="a list is UTF-8 text, one file a line") from None
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"{path} names no file", hint="write one a line, relative to the list's own folder")
    return [(name, path.parent / name) for name in names]
