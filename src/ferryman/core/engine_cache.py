"""Engines that were built on this device, kept for later starts: found by what they depend on, whole or not at all."""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ferryman.core.artifact import digest_path, files_of
from ferryman.core.errors import ConfigError, SourceError, StepError
from ferryman.core.scratch import scratch_folder, user_cache

ENGINE, RECORD = "engine", "engine.json"
_SCHEMA = 1
_LOCK, _SHARED, _MAKING, _DROPPED = ".lock", ".shared", ".making-", ".dropped-"
_MB = 1024 * 1024
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NAME = re.compile(r".+-[0-9a-f]{24}")
_TURN_S, _POLL_S = 2 * 3600, 0.1
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_log = logging.getLogger("ferryman.engines")

Fingerprint = Mapping[str, str]
"""All that an engine depends on, by name: another value anywhere is another engine."""


def engines_folder() -> Path:
    """Give where engines are kept unless something else is said: the user's cache."""
    return user_cache() / "ferryman" / "engines"


class EngineCache:
    """Keep engines in a folder, at most `limit_mb` of them (0: no limit); the longest unused one goes first.

    An engine runs as code, so the folder and what is found there must be writable to this user alone. A build waits at
    most `turn_s` for another process's. Raises ConfigError where the folder is open to others, or can't be made.
    """

    def __init__(self, folder: Path, *, limit_mb: int = 0, turn_s: float = _TURN_S) -> None:
        self._folder = folder
        self._turn_s = turn_s
        self._limit_bytes = limit_mb * _MB
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            is_open = _is_open(folder.stat())
        except OSError as error:
            raise ConfigError(
                f"engines can't be kept in {folder}: {error.strerror}", hint="name another folder: --engines DIR"
            ) from None
        if is_open:
            raise ConfigError(
                f"others may write into {folder}: what lies there runs as code",
                hint=f"empty {folder}, then chmod go-w it, as its owner; or name a folder of your own: --engines DIR",
            )

    @property
    def shared(self) -> Path:
        """Give the folder for what builds on this device share."""
        return self._folder / _SHARED

    def find(self, fingerprint: Fingerprint) -> Path | None:
        """Give the folder of an engine that is there, whole and for exactly this; throws away what isn't."""
        entry = self._entry(fingerprint)
        if not entry.exists():
            return None
        if trouble := _trouble(entry, fingerprint):
            _log.warning("the engine in %s %s: it is built anew", entry, trouble)
            with self._kept():
                self._drop(entry)
            return None
        with contextlib.suppress(OSError):  # a folder that may only be read
            os.utime(entry / RECORD)
        return entry / ENGINE

    def build(self, fingerprint: Fingerprint, make: Callable[[Path], None]) -> Path:
        """Give an engine's folder, made by `make` in an empty one unless it is there by the time it is our turn.

        One builder at a time works on this folder, whichever process it is in. Raises StepError where the disk is full
        or the other builder takes too long, and what `make` raises; nothing half-made stays.
        """
        with self._kept(), self._alone():
            if (found := self.find(fingerprint)) is not None:
                return found
            self._make_shared()
            entry = self._entry(fingerprint)
            with scratch_folder(self._folder, prefix=_MAKING) as making:
                (making / "whole" / ENGINE).mkdir(parents=True)
                make(making / "whole" / ENGINE)
                _write_record(making / "whole", fingerprint)
                os.replace(making / "whole", entry)
            self._make_room(keep=entry)
            return entry / ENGINE

    def entries(self) -> dict[Path, int]:
        """Give each engine's folder with its bytes, the longest unused first; what else lies there is none of ours."""
        found = [path for path in self._folder.iterdir() if _NAME.fullmatch(path.name) and (path / RECORD).is_file()]
        return {path: sum(file.stat().st_size for file in files_of(path)) for path in sorted(found, key=_used_s)}

    def _entry(self, fingerprint: Fingerprint) -> Path:
        text = json.dumps(dict(fingerprint), sort_keys=True)
        return self._folder / f"{fingerprint['engine']}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"

    def _make_room(self, *, keep: Path) -> None:
        if not self._limit_bytes:
            return
        held = self.entries()
        over = sum(held.values()) - self._limit_bytes
        for entry, size in held.items():
            if over <= 0:
                return
            if entry != keep:
                self._drop(entry)
                over -= size

    def _drop(self, entry: Path) -> None:
        """Remove an engine: at once for those who look for it, while who reads it reads on."""
        with scratch_folder(self._folder, prefix=_DROPPED) as dropped, contextlib.suppress(FileNotFoundError):
            os.replace(entry, dropped / "entry")

    def _make_shared(self) -> None:
        if self.shared.exists() and _is_planted(self.shared):
            _log.warning("%s is not ours alone: what lies there is thrown away", self.shared)
            self._drop(self.shared)
        self.shared.mkdir(exist_ok=True, mode=0o700)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        end_s = time.monotonic() + self._turn_s
        with (self._folder / _LOCK).open("a") as lock:
            if not _try_lock(lock.fileno()):
                _log.warning("another process builds an engine in %s: this build waits for it", self._folder)
                while not _try_lock(lock.fileno()):
                    if time.monotonic() > end_s:
                        raise StepError(
                            f"another process still builds an engine in {self._folder}, after {self._turn_s:g} s",
                            hint="wait for it or end it, or name another folder: --engines DIR",
                        )
                    time.sleep(_POLL_S)
            yield  # the lock ends with the process, too

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        """Tell what the disk refuses here as that; what fails elsewhere, in what builds an engine, is its own error."""
        try:
            yield
        except OSError as error:
            inside = error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(self._folder)
            if not inside and error.errno not in _FULL:
                raise
            why = "no space is left" if error.errno in _FULL else str(error.strerror or error)
            raise StepError(
                f"the engine can't be kept in {self._folder}: {why}",
                hint="free space there, or name another folder: --engines DIR",
            ) from error


def describe_engines(folder: Path) -> str:
    """Say what a folder of engines holds, without a look inside of them."""
    if not folder.is_dir():
        return f"{folder} (not there yet)"
    try:
        held = EngineCache(folder).entries()
    except (ConfigError, OSError) as error:
        return f"{folder} ({error})"
    return f"{folder} ({len(held)} engines, {sum(held.values()) / 1e6:.1f} MB)"


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_open(about: os.stat_result) -> bool:
    """Tell whether another user may change this: it is theirs, or writable to them."""
    return about.st_uid not in (0, os.geteuid()) or bool(about.st_mode & _OTHERS)


def _is_planted(folder: Path) -> bool:
    """Tell whether another user may have written anything here; a link, which anybody may lead elsewhere, is that."""
    return any(_is_open(path.lstat()) for path in (folder, *folder.rglob("*")))


def _used_s(entry: Path) -> float:
    try:
        return (entry / RECORD).stat().st_mtime
    except OSError:
        return 0.0


def _write_record(entry: Path, fingerprint: Fingerprint) -> None:
    for path in files_of(entry / ENGINE):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    record = {"schema": _SCHEMA, "fingerprint": dict(fingerprint), "digest": digest_path(entry / ENGINE)}
    with (entry / RECORD).open("w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    for path in (entry, *entry.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~_OTHERS)  # whatever this process's umask leaves to a group


def _trouble(entry: Path, fingerprint: Fingerprint) -> str:
    """Say what is wrong with an entry, nothing where it is as it was written, and for this."""
    try:
        if _is_planted(entry):
            return "is another user's, or open to others, or has a link"
        record = json.loads((entry / RECORD).read_text(encoding="utf-8"))
        if not isinstance(record, dict) or record.get("schema") != _SCHEMA:
            return "has no record that can be read"
        if record.get("fingerprint") != dict(fingerprint):
            return "is for another device, or another model"
        return "" if record.get("digest") == digest_path(entry / ENGINE) else "is damaged"
    except (OSError, ValueError, RecursionError, SourceError) as error:
        return f"can't be read ({error})"
