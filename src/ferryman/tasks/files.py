"""Find the files of a data set, thin them out and name their content."""

import glob
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ferryman.core.artifact import digest_file
from ferryman.core.errors import DataError
from ferryman.core.task import Truth

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})


def find_files(pattern: str, folder: Path, *, key: str) -> list[Path]:
    """Give the files of a glob (or the one file, or a folder's pictures) in sorted order; raises DataError for none.

    `key` is the setting's name, for the message.
    """
    whole = folder / pattern
    if whole.is_file():
        return [whole]
    if whole.is_dir():
        files = [path for path in sorted(whole.iterdir()) if path.suffix.lower() in PICTURE_SUFFIXES]
        if not files:
            raise DataError(f"{key} = '{pattern}': folder {whole} holds no pictures", hint="name them: 'folder/*.jpg'")
        return files
    found = sorted(Path(name) for name in glob.glob(str(whole), recursive=True))
    files = [path for path in found if path.is_file()]
    if not files:
        raise DataError(f"{key} = '{pattern}' matches no file", hint=_nearest(whole))
    return files


def relative_name(path: Path, folder: Path) -> str:
    """Name a file for messages: relative to `folder` where it is below."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def spread(count: int, limit: int | None) -> list[int]:
    """Give at most `limit` of the places 0..count-1, evenly spread."""
    if limit is None or limit >= count:
        return list(range(count))
    return [place * count // limit for place in range(limit)]


def digest_files(paths: Iterable[Path]) -> str:
    """Give the sha256 of the files' names and digests, in the order given."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.name.encode() + b"\0" + digest_file(path).encode() + b"\n")
    return total.hexdigest()


def digest_truths(digest: str, names: Sequence[str], truths: Sequence[Truth] | None) -> str:
    """Give the sha256 of the items' digest, their names and what is said of them, arrays by their bytes."""
    content = json.dumps([digest, names, truths], sort_keys=True, default=_plain)
    return hashlib.sha256(content.encode()).hexdigest()


def _plain(value: Any) -> list[Any] | str:  # whatever a truth holds beside JSON's own
    if isinstance(value, np.ndarray):
        return [value.dtype.str, list(value.shape), hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    return repr(value)


def refuse_unlabelled(missing: Sequence[str], count: int, source: str) -> None:
    """Raise DataError where pictures have no label."""
    if missing:
        raise DataError(
            f"{len(missing)} of {count} pictures have no label in {source}, first {missing[0]}",
            hint="label them, or leave them out of [data] evaluation items",
        )


def _nearest(path: Path) -> str:
    folder = path.parent
    while not folder.is_dir():
        folder = folder.parent
    kinds: dict[str, int] = {}
    for child in folder.iterdir():
        kind = "folders" if child.is_dir() else child.suffix or "files without a suffix"
        kinds[kind] = kinds.get(kind, 0) + 1
    holds = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "nothing"
    return f"the nearest folder that exists is {folder}; it holds {holds}"
