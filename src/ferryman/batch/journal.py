"""The folder of one work: what is done, so that it can be killed at any moment and gone on with."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferryman.core.artifact import digest_file
from ferryman.core.durable import sync_folder, write_whole
from ferryman.core.errors import UserError

Entry = dict[str, Any]  # JSON
FIGURES = "score.json"
REFUSED = "refused.jsonl"
FINISHED = ".finished"
JOURNAL = ".journal"
_PLAN = "plan.json"
_TMP = "unfinished"
_AGAIN = "--again throws away what is there and starts anew; or name another place"


@dataclass(frozen=True, slots=True)
class Counts:
    """Say of a chunk where it began, how many rows it had, and how many of them were refused."""

    start: int
    rows: int
    refused: int


class Journal:
    """Hold a folder of parts as its only writer; a chunk is there as a whole (its part, then its entry) or not at all.

    Raises UserError where another process holds it, or it was begun with another input, bundle or option.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any], *, again: bool) -> None:  # JSON
        self.folder = folder
        self._entries = folder / JOURNAL
        self.unfinished = self._entries / _TMP
        is_foreign = folder.exists() and not self._entries.exists() and (not folder.is_dir() or any(folder.iterdir()))
        if is_foreign:
            raise UserError(
                f"{folder} is there, and no work of ferryman score", hint="name a folder that is new or empty"
            )
        try:
            self._entries.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._entries / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise UserError(f"{folder} can't be written: {error.strerror}", hint="name another place") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise UserError(f"another process is writing {folder}", hint="wait for it, or name another place") from None
        except OSError as error:
            os.close(self._lock)
            raise UserError(f"{folder} has no locks: {error.strerror}", hint="name a place on another disk") from None
        try:
            self._begin(dict(plan), again=again)
            self.done = {int(path.stem): counts for path in self._paths() if (counts := self._read_counts(path))}
        except BaseException:
            self.close()
            raise
        self.rows = sum(counts.rows for counts in self.done.values())
        self.refused = sum(counts.refused for counts in self.done.values())

    def commit(self, number: int, entry: Entry, part: Path) -> None:
        """Take a part that is on the disk, then the chunk's entry."""
        part.replace(self.part(number))
        sync_folder(self.folder)
        write_whole(self._entries / f"{number:06d}.json", json.dumps(entry).encode())
        counts = self.done[number] = _counts(entry)
        self.rows += counts.rows
        self.refused += counts.refused

    def entries(self) -> Iterator[Entry]:
        """Give the entries of all chunks, in order."""
        for number in sorted(self.done):
            yield json.loads((self._entries / f"{number:06d}.json").read_text(encoding="ascii"))

    def part(self, number: int) -> Path:
        """Name the file of a chunk's answers."""
        return self.folder / f"part-{number:06d}.parquet"

    def parts(self) -> list[Path]:
        """Name the files of all chunks, in order."""
        return [self.part(number) for number in sorted(self.done)]

    @property
    def whole(self) -> tuple[int, int]:
        """Give how many chunks from the first on are done without a gap, and the row after them."""
        number = 0
        while number in self.done:
            number += 1
        if not number:
            return 0, 0
        last = self.done[number - 1]
        return number, last.start + last.rows

    def close(self) -> None:
        """Let another process write; workers that outlive their run find no place any more."""
        shutil.rmtree(self.unfinished, ignore_errors=True)
        os.close(self._lock)

    def _begin(self, plan: Entry, *, again: bool) -> None:
        if again:
            own = [*self._entries.iterdir(), *self.folder.glob("part-*.parquet")]
            for path in [*own, *(self.folder / name for name in (FIGURES, REFUSED, FINISHED))]:
                if path.is_file() and path.name != "lock":
                    path.unlink()
        shutil.rmtree(self.unfinished, ignore_errors=True)
        self.unfinished.mkdir()
        path = self._entries / _PLAN
        before = _load(path)
        if before is None:
            write_whole(path, json.dumps(plan, sort_keys=True).encode())
        elif changed := [name for name in sorted({*before, *plan}) if before.get(name) != plan.get(name)]:
            told = "; ".join(f"{name} was {_short(before.get(name))}, is {_short(plan.get(name))}" for name in changed)
            raise UserError(f"{self.folder} was begun with another {', '.join(changed)}: {told}", hint=_AGAIN)

    def _paths(self) -> list[Path]:
        return [path for path in sorted(self._entries.glob("*.json")) if path.stem.isdigit()]

    def _read_counts(self, path: Path) -> Counts | None:
        """Read an entry whose part is what was written; a chunk whose entry or part is damaged is done again."""
        entry = _load(path)
        try:
            if entry is None or digest_file(self.part(int(path.stem))) != entry["sha256"]:
                return None
            return _counts(entry)
        except (OSError, KeyError, TypeError):
            return None


def _counts(entry: Entry) -> Counts:
    return Counts(int(entry["start"]), int(entry["rows"]), len(entry["refused"]))


def _load(path: Path) -> Entry | None:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return read if isinstance(read, dict) else None


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
