"""Find bundles on disk: which models and versions there are to serve."""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ferryman.bundle.layout import MANIFEST, MANIFEST_LIMIT_BYTES
from ferryman.bundle.manifest import parse_manifest, read_manifest
from ferryman.core.bundle import Manifest
from ferryman.core.errors import BundleError, ConfigError

PACKED = ".ferry"
_DIGITS_OF_LABEL = 12


@dataclass(frozen=True, slots=True)
class Edition:
    """Hold one version of a model as it lies on disk; not loaded, and only its manifest read."""

    name: str
    version: str
    path: Path
    digest: str
    format: str
    size_bytes: int
    rank: tuple[bool, int, str, int, float]
    """What decides which version is the highest: numbers over names, then the place it was given in, then its age."""


@dataclass(slots=True)
class Shelf:
    """Hold every edition by model and version, and what could not be read."""

    editions: dict[str, dict[str, Edition]] = field(default_factory=dict)
    problems: dict[Path, str] = field(default_factory=dict)

    def find(self, name: str, version: str) -> Edition | None:
        """Give an edition, if it is there."""
        return self.editions.get(name, {}).get(version)

    def highest(self, name: str) -> str | None:
        """Give the version that is served where nobody chose one."""
        found = self.editions.get(name)
        return max(found.values(), key=lambda edition: edition.rank).version if found else None


def look(paths: Sequence[Path], *, is_strict: bool) -> Shelf:
    """Read the manifests below `paths`, each a bundle or a folder of bundles.

    Where `is_strict`, a path that is named itself and can't be read raises BundleError, and a bundle that is there
    twice ConfigError; else both are among the problems, as a bundle that lies in a folder always is.
    """
    shelf = Shelf()
    for place, path in enumerate(paths):
        if _is_bundle(path) or not path.is_dir():
            _add(shelf, path, "", place, is_strict=is_strict)
        else:
            for found, label in _below(path):
                _add(shelf, found, label, place, is_strict=False)
    return shelf


def peek(path: Path) -> Manifest:
    """Read the manifest of a bundle's folder or .ferry file, and nothing else of it."""
    if path.is_dir() or not path.exists():
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


def _below(folder: Path) -> Iterator[tuple[Path, str]]:
    """Give each bundle of a repository and its label: the name that it has in its model's own folder."""
    for child in _children(folder):
        if _is_bundle(child):
            yield child, ""
        elif child.is_dir():
            for inner in _children(child):
                if _is_bundle(inner):
                    yield inner, inner.name.removesuffix(PACKED)


def _children(folder: Path) -> list[Path]:
    # What begins with a dot is being written, or ours.
    return sorted(child for child in folder.iterdir() if not child.name.startswith("."))


def _add(shelf: Shelf, path: Path, label: str, place: int, *, is_strict: bool) -> None:
    try:
        edition = _read(path, label, place)
        known = shelf.find(edition.name, edition.version)
        if known is not None:
            raise ConfigError(
                f"bundle '{edition.name}' {edition.version} was given twice: {known.path} and {path}",
                hint="give it once",
            )
    except (BundleError, ConfigError, OSError) as error:
        if is_strict:
            raise
        shelf.problems[path] = str(error)
    else:
        shelf.editions.setdefault(edition.name, {})[edition.version] = edition


def _read(path: Path, label: str, place: int) -> Edition:
    manifest = peek(path)
    file = path / MANIFEST if path.is_dir() else path
    is_number = label.isdecimal()
    return Edition(
        name=manifest.name,
        version=label or manifest.digest[:_DIGITS_OF_LABEL],
        path=path,
        digest=manifest.digest,
        format=manifest.format,
        size_bytes=sum(entry.size for entry in manifest.files.values()),
        rank=(is_number, int(label) if is_number else 0, label, place, file.stat().st_mtime),
    )
