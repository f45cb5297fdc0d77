"""Find which entry of a list is meant for which picture."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ferryman.core.errors import DataError


@dataclass(frozen=True, slots=True)
class Entry:
    """Hold a listed file name, what the list says of it, and where it does so."""

    file: str
    said: Any  # a label, or COCO's image id: a number or text
    where: str


def match_entries(pictures: Sequence[Path], entries: Sequence[Entry], folders: Sequence[Path]) -> dict[Path, Entry]:
    """Give each picture the entry that is meant for it; pictures without one are left out.

    An entry is meant for the picture at its path from `folders` (the first goes first), else for one whose path ends
    with the entry's folders and name, else for the only one of its bare name. Raises DataError where two pictures could
    be meant, or where two entries say different things of one picture.
    """
    ways: list[tuple[Callable[[Path], Iterable[str]], Callable[[Entry], str]]] = [
        (partial(_paths_from, folder), lambda entry: os.path.normpath(entry.file)) for folder in folders
    ]
    ways += [(_path_ends, _own_end), (lambda picture: [picture.name], lambda entry: PurePosixPath(entry.file).name)]
    matched: dict[Path, Entry] = {}
    left = list(entries)
    for keys_of, key_of in ways:
        by_key: dict[str, list[Entry]] = {}
        for entry in left:
            by_key.setdefault(key_of(entry), []).append(entry)
        owners = _owners([path for path in pictures if path not in matched], by_key, keys_of)
        matched |= {picture: _only(by_key[key], picture) for key, picture in owners.items()}
        left = [entry for entry in left if key_of(entry) not in owners]
    return matched


def _owners(
    pictures: Sequence[Path], by_key: dict[str, list[Entry]], keys_of: Callable[[Path], Iterable[str]]
) -> dict[str, Path]:
    owners: dict[str, Path] = {}
    for picture in pictures:
        key = next((key for key in keys_of(picture) if key in by_key), None)
        if key is None:
            continue
        if owners.get(key, picture) != picture:
            entry = by_key[key][0]
            raise DataError(
                f"{entry.where}: '{entry.file}' may be {owners[key]} or {picture}",
                hint="list pictures with their folders, or let data.evaluation items match one of them",
            )
        owners[key] = picture
    return owners


def _only(entries: Sequence[Entry], picture: Path) -> Entry:
    first = entries[0]
    other = next((entry for entry in entries if entry.said != first.said), None)
    if other is not None:
        raise DataError(
            f"{picture} may be '{first.file}' ({first.where}) or '{other.file}' ({other.where})",
            hint="list each picture once, with its folders as they are on disk",
        )
    return first


def _paths_from(folder: Path, picture: Path) -> list[str]:
    return [os.path.relpath(picture, folder), os.path.normpath(picture.absolute())]


def _path_ends(picture: Path) -> list[str]:
    """Give the ends of a path that have a folder, longest first."""
    parts = picture.absolute().parts[1:]
    return ["/".join(parts[start:]) for start in range(len(parts) - 1)]


def _own_end(entry: Entry) -> str:
    parts = PurePosixPath(os.path.normpath(entry.file)).parts
    return "/".join(part for part in parts if part not in ("/", "//", ".."))
