"""The journal: where a record goes first, in the kernel's hands before `append` returns."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from ferryman.core.durable import sync_folder
from ferryman.monitor.store.frames import HEADER, Damage, frame, scan
from ferryman.monitor.store.rows import Raw, decode


class Journal:
    """Append frames to one file; one that does not fit whole leaves no trace."""

    def __init__(self, path: Path) -> None:
        """Make the file; raises OSError where that can't be done."""
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self.size = self.records = 0
        self._is_synced = True
        try:
            self._write(HEADER)
        except OSError:
            os.close(self._file)
            path.unlink(missing_ok=True)
            raise

    def append(self, payloads: Sequence[bytes]) -> None:
        """Write all frames or, with OSError, none."""
        self._write(b"".join([frame(payload) for payload in payloads]))
        self.records += len(payloads)

    def sync(self) -> None:
        """Bring what was written to the disk, so that a loss of power doesn't take it."""
        if not self._is_synced:
            self._is_synced = True
            os.fdatasync(self._file)

    def close(self) -> None:
        """Sync as far as the disk can, and close."""
        try:
            self.sync()
            sync_folder(self.path.parent)
        except OSError:
            pass
        finally:
            os.close(self._file)

    def _write(self, whole: bytes) -> None:
        written = 0
        try:
            while written < len(whole):
                written += os.write(self._file, memoryview(whole)[written:])
        except OSError:
            if written:
                os.ftruncate(self._file, self.size)
            raise
        self.size += len(whole)
        self._is_synced = False


@dataclass(slots=True)
class Segment:
    """Hold what could be read of one journal."""

    raws: list[Raw] = field(default_factory=list)
    end: int = 0
    records: int = 0
    damage: Damage = field(default_factory=Damage)
    undecodable: int = 0


def read_segment(path: Path, *, start: int = 0) -> Segment:
    """Read a journal's good records from an offset on; raises OSError where it can't be opened."""
    segment = Segment([], start)
    segment.raws = list(each_of(path, segment, start=start))
    return segment


def each_of(path: Path, segment: Segment, *, start: int = 0) -> Iterator[Raw]:
    """Give a journal's good records one by one; counts the rest into `segment`. Raises OSError."""
    held = path.read_bytes() if not start else _from(path, start)
    position = len(HEADER) if not start and held.startswith(HEADER) else 0
    if not start and HEADER.startswith(held):  # its writer was killed, or found no room, before its first record
        segment.end = len(held)
        return
    segment.end = start + position
    for end, payload in scan(held, segment.damage, start=position):
        segment.end = start + end
        try:
            raw = _checked(decode(payload))
        except (orjson.JSONDecodeError, TypeError, ValueError, IndexError):
            segment.undecodable += 1
        else:
            segment.records += 1
            yield raw


def _from(path: Path, start: int) -> bytes:
    with path.open("rb") as opened:
        opened.seek(start)
        return opened.read()


def _checked(raw: Raw) -> Raw:
    if not isinstance(raw, list) or len(raw) != 15 or not isinstance(raw[14], dict):
        raise ValueError("no record")
    return raw
