"""What earlier builds made and measured, found again by digest; safe to kill, safe to share between builds."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from ferryman.core.artifact import Artifact, digest_file, digest_path, files_of
from ferryman.core.errors import FerrymanError
from ferryman.core.plugins import KINDS, plugins
from ferryman.core.scratch import scratch_folder
from ferryman.core.signature import Signature

_SCRATCH = "unfinished-"


class Cache:
    """Keep artifacts and JSON in a folder. Whatever is there is whole: everything is renamed into place."""

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        self.folder = folder
        self.hits = 0
        self.misses = 0
        self._fresh = fresh
        self._made: set[str] = set()

    def values(self, kind: str, key: JsonValue, make: Callable[[], JsonValue]) -> Any:  # JSON
        """Give the JSON that `make` gave for this key before, or call it now."""
        digest = digest_key([kind, key])
        path = self.folder / "values" / f"{kind}-{digest[:24]}.json"
        if self._usable(digest):
            try:
                stored = json.loads(path.read_text(encoding="utf-8"))
                self.hits += digest not in self._made
                return stored
            except (OSError, ValueError):
                pass  # not there, or damaged: make it again
        self.misses += 1
        value = make()
        self._made.add(digest)
        with self._write_errors(), self._scratch() as scratch:
            path.parent.mkdir(parents=True, exist_ok=True)
            (scratch / path.name).write_text(json.dumps(value), encoding="utf-8")
            (scratch / path.name).replace(path)
        return value

    def artifact(self, kind: str, key: JsonValue, make: Callable[[Path], Artifact]) -> Artifact:
        """Give the artifact that `make` wrote for this key before, or let it write one into an empty folder."""
        digest = digest_key([kind, key])
        home = self.folder / "artifacts" / f"{kind}-{digest[:24]}"
        if self._usable(digest) and (stored := _read_artifact(home)) is not None:
            self.hits += digest not in self._made
            return stored
        self.misses += 1
        with self._write_errors(), self._scratch() as scratch:
            workspace = scratch / "artifact"
            workspace.mkdir()
            home.parent.mkdir(parents=True, exist_ok=True)
            made = make(workspace)
            _write_artifact(workspace, made)
            there = _read_artifact(home)
            if there is None or (self._fresh and there.digest != made.digest):
                _put(workspace, home)
        self._made.add(digest)
        stored = _read_artifact(home)
        if stored is None:
            raise FerrymanError(f"{home} changed while it was written", hint="is another build using this cache?")
        return stored

    def find(self, kind: str, key: JsonValue) -> Artifact | None:
        """Give the artifact that was made for this key before; None where there is none to be used."""
        digest = digest_key([kind, key])
        return _read_artifact(self.folder / "artifacts" / f"{kind}-{digest[:24]}") if self._usable(digest) else None

    def _usable(self, digest: str) -> bool:
        return not self._fresh or digest in self._made

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """Give an empty folder that goes at the end, with those of builds that were killed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with scratch_folder(self.folder, prefix=_SCRATCH) as folder:
            yield folder

    def _write_errors(self) -> "_WriteErrors":
        return _WriteErrors(self.folder)


class _WriteErrors:
    """Turn a full or read-only disk into an error that says so."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and self._is_ours(error):
            raise FerrymanError(
                f"can't write under {self._folder}: {error.strerror or error}",
                hint="free some space there, or point FERRYMAN_CACHE to another folder",
            ) from error

    def _is_ours(self, error: OSError) -> bool:
        """Tell a disk that can't take more from a file of the user's that can't be read."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            return True
        return error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(self._folder)


def _put(folder: Path, home: Path) -> None:
    """Move a whole artifact to its place; one that another build puts there in the same moment is as good."""
    with suppress(FileNotFoundError):
        home.replace(folder.with_name("replaced"))
    try:
        folder.replace(home)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def digest_key(key: JsonValue) -> str:
    """Give the sha256 of a key, the versions of what computes and our own code."""
    text = json.dumps([key, _environment()], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _environment() -> dict[str, str]:
    return {**package_versions(), "ferryman code": _code_digest()}


@cache
def package_versions() -> dict[str, str]:
    """Give the versions of the installed packages that results depend on: our requirements, and plug-ins of others."""
    texts = [text for text in requires("ferryman") or [] if not re.search(r"extra == ['\"]dev['\"]", text)]
    names = {re.split(r"[^A-Za-z0-9._-]", text)[0] for text in texts}
    names |= {plugin.package for kind in KINDS for plugin in plugins(kind).values()}
    found = {}
    for package in sorted({*names, "ferryman"}):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


_ROOT = Path(__file__).resolve().parents[1]
_SHOWN = ("__pycache__", "cli", "server", "client", "demo")
"""Folders of what no result depends on."""


def _code_digest(root: Path = _ROOT) -> str:
    """Give a digest of our own files, not of Python alone: converters and engines are JavaScript, too."""
    total = hashlib.sha256()
    for path in files_of(root):
        if path.parent.name not in _SHOWN and "report" not in path.name:
            total.update(path.relative_to(root).as_posix().encode() + b"\0" + digest_file(path).encode())
    return total.hexdigest()


def _write_artifact(workspace: Path, made: Artifact) -> None:
    inside = made.path.is_relative_to(workspace)
    record = {
        "path": str(made.path.relative_to(workspace)) if inside else str(made.path.resolve()),
        "format": made.format,
        "signature": made.signature.model_dump(mode="json"),
        "digest": made.digest,
        "content": digest_path(made.path),  # a source's own digest may cover more than its file: its factory
        "precision": made.precision,
        "made_by": list(made.made_by),
        "loader": dict(made.loader),
    }
    (workspace / "artifact.json").write_text(json.dumps(record), encoding="utf-8")


def _read_artifact(home: Path) -> Artifact | None:
    try:
        record = json.loads((home / "artifact.json").read_text(encoding="utf-8"))
        artifact = Artifact(
            path=home / record["path"],
            format=record["format"],
            signature=Signature.model_validate(record["signature"]),
            digest=record["digest"],
            precision=record["precision"],
            made_by=tuple(record["made_by"]),
            loader=record["loader"],
        )
        return artifact if digest_path(artifact.path) == record["content"] else None
    except (OSError, ValueError, KeyError):
        return None
