"""Where things lie in a folder of records, and how names from outside become safe names of folders."""

import hashlib
import json
import os
import re
import secrets
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import quote

JOURNAL, SEALED, SPOOL, DAMAGED, PAYLOADS, SINKS = "journal", "records", "spool", "damaged", "payloads", "sinks"
UNFINISHED = "unfinished"
DAY_S = 86400.0
_NO_DAY = "1970-01-01"
_LAST_DAY_S = 4102444800.0  # 2100-01-01: what is later is no time
_MAX_NAME = 100
_SEGMENT = re.compile(r"^(\d{10})-[0-9a-f]{16}$")
_SEALED = re.compile(r"^(\d{10}-[0-9a-f]{16})\.([0-9a-f]{8})(\.merged)?\.parquet$")


def records_in(folder: Path) -> Path:
    """Give the folder of records, where a server's whole folder (`--monitor DIR`) was named, too."""
    inner = folder / "records"
    return inner if (inner / JOURNAL).is_dir() or (inner / SEALED).is_dir() else folder


def safe_name(text: str) -> str:
    """Give a name of a folder for any text: itself where it is plain, else quoted as in URLs, else a digest."""
    quoted = quote(text, safe="", errors="replace").replace("~", "%7E")
    if len(quoted) > _MAX_NAME:
        return f"{quoted[:60]}~{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:32]}"
    return quoted


def day_of(at_s: float) -> str:
    """Give the UTC date of a Unix time, or 1970-01-01 where it is none."""
    if not 0 <= at_s < _LAST_DAY_S:
        return _NO_DAY
    return datetime.fromtimestamp(at_s, UTC).date().isoformat()


def partition(model: str, version: str, day: str) -> Path:
    """Give the folder, below `records`, of one model's version and day."""
    return Path(f"model={safe_name(model)}", f"version={safe_name(version)}", f"date={day}")


def new_segment(number: int) -> str:
    """Name a new segment: its number, which orders them, and what makes it unique among all servers."""
    return f"{number:010d}-{secrets.token_hex(8)}"


def segment_number(segment: str) -> int:
    """Give a segment's number; 0 for what is none."""
    found = _SEGMENT.match(segment)
    return int(found[1]) if found else 0


@dataclass(frozen=True, slots=True)
class SealedFile:
    """Name one Parquet file: of which segment it was made, and the CRC-32 that its bytes have.

    One that others were merged into has the last one's segment; `replaced_path` names a file that names them.
    """

    path: Path
    segment: str
    crc: int
    is_merged: bool = False

    @property
    def replaced_path(self) -> Path:
        """Give the file that holds the names of those that were merged into this one, as JSON, while they are there."""
        return self.path.with_suffix(".json")

    @property
    def day(self) -> str:
        """Give the day of its records."""
        return self.path.parent.name.removeprefix("date=")

    def is_whole(self) -> bool:
        """Read all of it, and compare with the CRC-32 in its name."""
        try:
            with self.path.open("rb") as opened:
                crc = 0
                while chunk := opened.read(1 << 20):
                    crc = zlib.crc32(chunk, crc)
        except OSError:
            return False
        return crc == self.crc


def sealed_file(path: Path) -> SealedFile | None:
    """Read a sealed file's name; None for any other file."""
    found = _SEALED.match(path.name)
    return SealedFile(path, found[1], int(found[2], 16), bool(found[3])) if found else None


def replaced(merged: SealedFile) -> list[str]:
    """Give the names of the files that were merged into one, in its folder; none once they are deleted."""
    try:
        names: list[str] = json.loads(merged.replaced_path.read_bytes())
    except FileNotFoundError:
        return []
    return names


def delete_replaced(merged: SealedFile) -> None:
    """Delete the files that were merged into one, then their names; raises OSError."""
    for name in replaced(merged):
        (merged.path.parent / name).unlink(missing_ok=True)
        if name.endswith(".merged.parquet"):
            (merged.path.parent / name).with_suffix(".json").unlink(missing_ok=True)
    merged.replaced_path.unlink(missing_ok=True)


def sealed_files(folder: Path, model: str | None = None, version: str | None = None) -> list[SealedFile]:
    """List sealed files, of one model or version where it is named, the oldest first; without those merged away."""
    models = [folder / SEALED / f"model={safe_name(model)}"] if model is not None else _below(folder / SEALED)
    versions = [
        below
        for each in models
        for below in ([each / f"version={safe_name(version)}"] if version is not None else _below(each))
    ]
    found = [sealed for each in versions for day in _below(each) for sealed in _sealed_in(day)]
    return sorted(found, key=lambda sealed: (sealed.day, sealed.segment))


def days(folder: Path) -> list[Path]:
    """List the folders of sealed files: each of a model, a version and a day."""
    return [day for model in _below(folder / SEALED) for version in _below(model) for day in _below(version)]


def _sealed_in(day: Path) -> list[SealedFile]:
    """List a day's files. What was merged is named before the merged file is there, and deleted after: none twice."""
    found = [sealed for path in _files(day) if (sealed := sealed_file(path)) is not None]
    gone = {name for sealed in found if sealed.is_merged for name in replaced(sealed)}
    return [sealed for sealed in found if sealed.path.name not in gone]


def segments(folder: Path, place: str = JOURNAL) -> list[Path]:
    """List a place's journals, the oldest first."""
    return sorted(path for path in _files(folder / place) if path.suffix == ".log" and segment_number(path.stem))


def is_day_before(day: str, at_s: float) -> bool:
    """Tell whether all of a day lies before a Unix time."""
    try:
        return date.fromisoformat(day) < datetime.fromtimestamp(at_s, UTC).date()
    except (ValueError, OverflowError, OSError):
        return False


def _below(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry) for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _files(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            yield from [Path(entry) for entry in entries if entry.is_file(follow_symlinks=False)]
    except OSError:
        return
