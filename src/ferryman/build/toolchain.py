"""Make, list and remove the environments of converters that need one of their own."""

import errno
import fcntl
import json
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ferryman.build.installer import Installer, no_space
from ferryman.core.artifact import files_of
from ferryman.core.errors import UserError
from ferryman.core.progress import Progress, silent
from ferryman.core.toolchain import RECORD, Toolchain, find_toolchain, toolchains, toolchains_folder


@dataclass(frozen=True, slots=True)
class Made:
    """Tell of one toolchain: whether it is there, what it holds and what it cost."""

    name: str
    summary: str
    folder: str
    is_installed: bool
    base: str = ""
    pins: tuple[str, ...] = ()
    packages: dict[str, str] | None = None
    mb: float = 0.0
    seconds: float = 0.0
    expected_mb: int = 0
    license: str = ""


def list_toolchains() -> list[Made]:
    """Give every toolchain that a plug-in declares."""
    return [describe(toolchain) for toolchain in toolchains().values()]


def describe(toolchain: Toolchain) -> Made:
    """Tell of one toolchain what is known before and after it was made."""
    record = toolchain.record or {}
    return Made(
        toolchain.name,
        toolchain.summary,
        str(toolchain.folder),
        toolchain.is_installed,
        toolchain.base,
        (*toolchain.python, *toolchain.bare, *toolchain.node),
        record.get("packages"),
        record.get("mb", 0.0),
        record.get("seconds", 0.0),
        toolchain.expected_mb,
        toolchain.license,
    )


def with_bases(names: Sequence[str]) -> list[Toolchain]:
    """Give toolchains by name, each after the one that it stands on; raises PlanError for a name nobody declares."""
    ordered: dict[str, Toolchain] = {}

    def take(name: str) -> None:
        toolchain = find_toolchain(name)
        if toolchain.base:
            take(toolchain.base)
        ordered.setdefault(name, toolchain)

    for name in names:
        take(name)
    return list(ordered.values())


def add_toolchain(toolchain: Toolchain, *, progress: Progress = silent) -> Made:
    """Make a toolchain's environment, unless it is there; its base must be there.

    Raises FerrymanError with the installer's last lines where that fails. What a killed or failed run left is made
    anew; pip's own cache keeps what was downloaded.
    """
    folder = toolchain.folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"can't write under {folder.parent}: {error.strerror}", hint="point FERRYMAN_TOOLCHAINS to another folder"
        ) from None
    with _locked(folder.with_suffix(".lock"), toolchain.name, progress) as held:
        if toolchain.is_installed:
            return describe(toolchain)
        shutil.rmtree(folder, ignore_errors=True)
        log = folder.with_suffix(".log")
        log.unlink(missing_ok=True)
        try:
            _make(toolchain, Installer(toolchain, log, progress, held))
        except BaseException as error:
            full = isinstance(error, OSError) and error.errno == errno.ENOSPC
            told = no_space(toolchain) if full else None
            shutil.rmtree(folder, ignore_errors=True)
            if told is not None:
                raise told from error
            raise
        log.unlink(missing_ok=True)
    return describe(toolchain)


def remove_toolchain(toolchain: Toolchain, *, dry_run: bool = False) -> float:
    """Remove a toolchain of every version; gives the megabytes that are free again, or would be."""
    freed = 0
    pattern = re.compile(re.escape(toolchain.name) + r"-py\d+-[0-9a-f]{12}")
    with suppress(FileNotFoundError):
        for folder in toolchains_folder().iterdir():
            if folder.is_dir() and pattern.fullmatch(folder.name):
                freed += _bytes(folder)
                if not dry_run:
                    shutil.rmtree(folder)
    return freed / 1e6


def _make(toolchain: Toolchain, installer: Installer) -> None:
    """Install it, and write its record last of all: only what has one is whole."""
    begun, folder = time.monotonic(), toolchain.folder
    packages = installer.install()
    taken = {"mb": round(_bytes(folder) / 1e6, 1), "seconds": round(time.monotonic() - begun, 1)}
    text = json.dumps({"name": toolchain.name, "digest": toolchain.digest, "packages": packages, **taken}, indent=1)
    unfinished = folder / f"{RECORD}.unfinished"
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(folder / RECORD)


@contextmanager
def _locked(path: Path, name: str, progress: Progress) -> Iterator[int]:
    """Let one process at a time make a toolchain; the others wait, and find it. Gives the lock's descriptor."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"{name}: another process makes it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in files_of(folder))
