"""A model on disk."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ferryman.core.errors import SourceError
from ferryman.core.signature import Signature

CARRIED = frozenset({"signature"})
"""What of an artifact's `loader` goes with it into a bundle: names of what is in the file, nothing that could run."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """Name a model file or folder, its format (a plug-in's string) and what made it; never changed once written.

    `loader` holds what a loader needs beyond the path (a factory's name, the user's `trust`); JSON values.
    """

    path: Path
    format: str
    signature: Signature
    digest: str
    precision: str = "fp32"
    made_by: tuple[str, ...] = ()
    loader: Mapping[str, Any] = field(default_factory=dict)  # plug-ins' own JSON

    @property
    def size_bytes(self) -> int:
        """Give the bytes of the file, or of all files in the folder."""
        return sum(path.stat().st_size for path in files_of(self.path))


def files_of(path: Path) -> Iterator[Path]:
    """Yield `path` itself, or the files below it in sorted order."""
    if path.is_dir():
        yield from sorted(child for child in path.rglob("*") if child.is_file())
    else:
        yield path


def digest_file(path: Path) -> str:
    """Give the sha256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_path(path: Path) -> str:
    """Give the sha256 of a file, or of a folder's relative names and files' digests in sorted order.

    Raises SourceError for a folder that holds a link to another: what loads a model follows it, and its files would
    not count. Links to files count with the bytes that they lead to.
    """
    if not path.is_dir():
        return digest_file(path)
    if linked := next((child for child in sorted(path.rglob("*")) if child.is_symlink() and child.is_dir()), None):
        raise SourceError(f"{linked} is a link to a folder inside of a model's folder", hint="copy its files there")
    total = hashlib.sha256()
    for child in files_of(path):
        total.update(child.relative_to(path).as_posix().encode() + b"\0" + digest_file(child).encode() + b"\n")
    return total.hexdigest()
