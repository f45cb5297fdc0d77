"""Payloads that were sampled: a file each, what it is of beside it, few a day, for a short time."""

import contextlib
import errno
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ferryman.core.durable import write_whole
from ferryman.core.recording import PayloadsSection
from ferryman.monitor.store.layout import PAYLOADS, day_of, is_day_before
from ferryman.monitor.store.redact import Redactor, Unredactable, folder_key
from ferryman.monitor.store.retention import oldest_allowed_s
from ferryman.monitor.store.rows import MAX_TEXT
from ferryman.monitor.store.tally import Tally

_FIELDS = ("id", "model", "version", "kind", "why", "at_s")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Payload:
    """Name one payload on disk: of which request, what it is, why it was kept, and where it lies (redacted)."""

    path: Path
    id: str
    model: str
    version: str
    kind: str
    why: str
    at_s: float


class PayloadShelf:
    """Keep payloads in a folder; what is not kept is counted by reason, and nothing is raised."""

    def __init__(self, folder: Path, section: PayloadsSection, tally: Tally, clock: Callable[[], float]) -> None:
        self._folder, self._section, self._tally, self._clock = folder, section, tally, clock
        self._redactor: Redactor | None = None
        self._day = ""
        self._of_day: list[Payload] = []
        self.kept = 0

    def add(self, record_id: str, model: str, version: str, kind: str, payload: bytes, why: str) -> None:
        """Redact and write one payload, if the day has room for it."""
        at_s = self._clock()
        self._turn_day(day_of(at_s))
        if len(self._of_day) >= self._section.max_per_day:
            self._tally.count("payload_day_full")
            return
        try:
            redacted, suffix = self._redact(kind, payload)
            about = {"id": record_id[:MAX_TEXT], "model": model, "version": version, "kind": kind, "why": why}
            self._write({**about, "at_s": at_s}, redacted, suffix)
        except Unredactable as error:
            self._tally.count(f"payload_{str(error).replace(' ', '_')}")
        except OSError as error:
            self._tally.count("payload_disk_full" if error.errno in _FULL else "payload_disk_error")
        except (TypeError, ValueError):
            self._tally.count("payload_unwritable")

    def trim(self, *, is_believed: bool) -> None:
        """Delete what is too old, where the clock is believed, then the oldest of what is too much."""
        held = payloads(self._folder)
        before_s = oldest_allowed_s(self._clock(), self._section.keep_days)
        sizes = {payload.path: _size(payload.path) for payload in held}
        left = sum(sizes.values())
        for payload in held:
            is_old = is_believed and is_day_before(payload.path.parent.name, before_s)
            if is_old or left > self._section.max_mb * 10**6:
                left -= sizes[payload.path]
                _delete(payload)

    def _turn_day(self, day: str) -> None:
        if day != self._day:
            self._day = day
            self._of_day = [payload for payload in payloads(self._folder, day) if payload.path.exists()]

    def _redact(self, kind: str, payload: bytes) -> tuple[bytes, str]:
        if self._redactor is None:
            self._redactor = Redactor(self._section, folder_key(self._folder))
        return self._redactor.redact(kind, payload)

    def _write(self, about: dict[str, Any], redacted: bytes, suffix: str) -> None:
        place = self._folder / PAYLOADS / self._day
        place.mkdir(mode=0o750, exist_ok=True)
        stem = f"{int(about['at_s'] * 1000):014d}-{secrets.token_hex(4)}"
        path, told = place / f"{stem}{suffix}", place / f"{stem}.about"
        try:
            write_whole(path, redacted)
            write_whole(told, orjson.dumps({**about, "file": path.name}, option=orjson.OPT_SERIALIZE_NUMPY))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self._of_day.append(Payload(path, **about))
        self.kept += 1


def payloads(folder: Path, day: str | None = None) -> list[Payload]:
    """List payloads, the oldest first, of one day (UTC, as 2026-11-23) where it is given; damaged ones are left out."""
    try:
        days = [folder / PAYLOADS / day] if day else sorted(path for path in (folder / PAYLOADS).iterdir())
        abouts = [about for place in days if place.is_dir() for about in sorted(place.glob("*.about"))]
    except OSError:
        return []
    return [payload for about in abouts if (payload := _read(about)) is not None]


def _read(about: Path) -> Payload | None:
    try:
        told = orjson.loads(about.read_bytes())
        path = about.with_name(Path(told["file"]).name)
        return Payload(path, **{field: told[field] for field in _FIELDS})
    except (OSError, orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
        return None


def _delete(payload: Payload) -> None:
    for path in (payload.path.with_suffix(".about"), payload.path):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        os.rmdir(payload.path.parent)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size + 512
    except OSError:
        return 512
