"""Find bundles on disk: which models and versions there are to serve."""

import contextlib
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ferryman.bundle.layout import MANIFEST, MANIFEST_LIMIT_BYTES, MODEL, PARTS
from ferryman.bundle.manifest import parse_manifest, read_manifest
from ferryman.core.bundle import Manifest
from ferryman.core.errors import BundleError, ConfigError

PACKED = ".ferry"
_DIGITS_OF_LABEL = 12


@dataclass(frozen=True, slots=True)
class Edition:
    """Hold one version of a model as it lies on disk; not loaded, and only its manifest read.

    `problem` says why it can't be served where that is known already; `format` is "" then.
    """

    name: str
    version: str
    path: Path
    digest: str
    format: str
    size_bytes: int
    rank: tuple[bool, int, str, int, float]
    """What decides which version is the highest: numbers over names, then the place it was given in, then its age."""
    touched_ns: int = 0
    """When any of its files was changed last: a copy that was not whole yet may be now."""
    problem: str = ""


@dataclass(slots=True)
class Shelf:
    """Hold every edition by model and version, and what belongs to no model or is there twice."""

    editions: dict[str, dict[str, Edition]] = field(default_factory=dict)
    problems: dict[Path, str] = field(default_factory=dict)

    def find(self, name: str, version: str) -> Edition | None:
        """Give an edition, if it is there."""
        return self.editions.get(name, {}).get(version)

    def ranked(self, name: str) -> list[Edition]:
        """Give a model's editions, the highest first."""
        return sorted(self.editions.get(name, {}).values(), key=lambda edition: edition.rank, reverse=True)


@dataclass(frozen=True, slots=True)
class _Found:
    """Hold where a bundle lies; `model` and `version` are what its folders call it, "" where they call it nothing."""

    path: Path
    place: int
    model: str = ""
    version: str = ""


def look(paths: Sequence[Path], *, is_strict: bool) -> Shelf:
    """Read the manifests below `paths`, each a bundle or a repository: a folder of MODEL/VERSION or of bundles.

    Below MODEL/VERSION everything is an edition of that model, also what can't be read or is of another model: then
    with the problem. Where `is_strict`, a path that is named itself and can't be read raises BundleError, and a bundle
    that is there twice ConfigError; else both are among the problems, as a bundle that lies in a folder always is.
    """
    shelf = Shelf()
    for place, path in enumerate(paths):
        if _is_bundle(path) or not path.is_dir():
            _add(shelf, _Found(path, place), is_strict=is_strict)
            continue
        for found in _below(shelf, path, place):
            _add(shelf, found, is_strict=False)
    _tell_of_namesakes(shelf, paths)
    return shelf


def peek(path: Path) -> Manifest:
    """Read the manifest of a bundle's folder or .ferry file, and nothing else of it."""
    if not path.exists():
        raise BundleError(f"there is nothing at {path}", hint="check the path; ferryman build makes bundles")
    if path.is_dir():
        return read_manifest(path)
    try:
        with tarfile.open(path, mode="r:") as archive:
            first = archive.next()
            stream = archive.extractfile(first) if first is not None and first.name == MANIFEST else None
            if stream is None:
                raise BundleError(f"{path} is not a .ferry file: it does not begin with {MANIFEST}")
            return parse_manifest(stream.read(MANIFEST_LIMIT_BYTES + 1), origin=f"{path}: {MANIFEST}")
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        raise BundleError(f"{path} is not a whole .ferry file: {error}", hint="copy it again") from None


def _is_bundle(path: Path) -> bool:
    if path.is_dir():
        return (path / MANIFEST).is_file()
    return path.suffix == PACKED and path.is_file()


def _is_half_copied(path: Path) -> bool:
    return any((path / part).exists() for part in (*PARTS, MODEL))


def _below(shelf: Shelf, folder: Path, place: int) -> Iterator[_Found]:
    for child in _children(shelf, folder):
        if _is_bundle(child):
            yield _Found(child, place)
        elif child.is_dir():
            found = _children(shelf, child)
            bundles = [inner for inner in found if _is_bundle(inner) or _is_half_copied(inner)]
            for inner in bundles:
                yield _Found(inner, place, child.name, inner.name.removesuffix(PACKED))
            for inner in found if bundles else []:
                if inner not in bundles and inner.name.isdecimal():
                    shelf.problems[inner] = "it is no bundle"


def _children(shelf: Shelf, folder: Path) -> list[Path]:
    try:  # what begins with a dot is being written, or ours
        return sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    except OSError as error:
        shelf.problems[folder] = f"it can't be listed: {error.strerror or error}"
        return []


def _add(shelf: Shelf, found: _Found, *, is_strict: bool) -> None:
    try:
        edition = _read(found)
        known = shelf.find(edition.name, edition.version)
        if known is not None and not known.problem:
            raise ConfigError(
                f"bundle '{edition.name}' {edition.version} was given twice: {known.path} and {found.path}",
                hint="give it once",
            )
    except (BundleError, ConfigError, OSError) as error:
        if is_strict:
            raise
        shelf.problems[found.path] = str(error)
    else:
        shelf.editions.setdefault(edition.name, {})[edition.version] = edition


def _read(found: _Found) -> Edition:
    """Read a bundle's manifest; raises BundleError where it can't be read and no folder says what it should be."""
    try:
        manifest = peek(found.path)
    except (BundleError, OSError) as error:
        if not found.model:
            raise
        return _spoiled(found, str(error))
    if found.model not in ("", manifest.name):
        return _spoiled(
            found,
            f"it is a bundle of model '{manifest.name}' in the folder of '{found.model}': rename the folder, or build "
            "it under that name",
        )
    file = found.path / MANIFEST if found.path.is_dir() else found.path
    return Edition(
        name=manifest.name,
        version=found.version or manifest.digest[:_DIGITS_OF_LABEL],
        path=found.path,
        digest=manifest.digest,
        format=manifest.format,
        size_bytes=sum(entry.size for entry in manifest.files.values()),
        rank=_rank(found, file.stat().st_mtime),
        touched_ns=_touched_ns(found.path),
    )


def _spoiled(found: _Found, problem: str) -> Edition:
    return Edition(
        found.model, found.version, found.path, problem, "", 0, _rank(found, 0.0), _touched_ns(found.path), problem
    )


def _touched_ns(path: Path) -> int:
    newest = 0
    for file in (path, *path.rglob("*")):
        with contextlib.suppress(OSError):  # it may be gone by now
            newest = max(newest, file.stat().st_mtime_ns)
    return newest


def _tell_of_namesakes(shelf: Shelf, folders: Sequence[Path]) -> None:
    """Of bundles without a version that lie in one folder the newest serves its model: nobody should have to guess."""
    for name in shelf.editions:
        loose = [edition for edition in shelf.ranked(name) if edition.path.parent in folders]
        for older in loose[1:]:
            if older.path not in folders:
                shelf.problems[older.path] = f"{loose[0].path} is a newer bundle of model '{name}'"


def _rank(found: _Found, age_s: float) -> tuple[bool, int, str, int, float]:
    is_number = found.version.isdecimal()
    return is_number, int(found.version) if is_number else 0, found.version, found.place, age_s
