"""What is deleted: what is too old, then the oldest of what is too much; never what is being written."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ferryman.monitor.store.layout import (
    DAMAGED,
    DAY_S,
    SealedFile,
    day_of,
    delete_replaced,
    is_day_before,
    sealed_files,
    segment_number,
    segments,
)


@dataclass(frozen=True, slots=True)
class Kept:
    """Name one file that may be deleted; `sealed` where it is a Parquet file."""

    path: Path
    order: tuple[str, str]
    size: int
    sealed: SealedFile | None = None


@dataclass(slots=True)
class Trimmed:
    """Say what was deleted, and what is left, in bytes."""

    files: int = 0
    bytes: int = 0
    left_bytes: int = 0


def held_files(folder: Path, open_from: int) -> list[Kept]:
    """List all that may be deleted, oldest first: Parquet by its records' day, journals and damaged files by age.

    Journals whose number is `open_from` or higher may be written to, and are none of it.
    """
    held = [Kept(one.path, (one.day, one.segment), _size(one.path), one) for one in sealed_files(folder)]
    closed = [path for path in segments(folder) if segment_number(path.stem) < open_from]
    held += [Kept(path, (day_of(_modified_s(path)), path.name), _size(path)) for path in (*closed, *_damaged(folder))]
    return sorted(held, key=lambda kept: kept.order)


def trim(
    held: Sequence[Kept], *, max_bytes: float, before_s: float | None, tell: Callable[[Kept], None] = lambda _kept: None
) -> Trimmed:
    """Delete what is of days before a Unix time (None: the clock is not believed), then down to `max_bytes`.

    `tell` hears of each file that goes.
    """
    trimmed = Trimmed(left_bytes=sum(kept.size for kept in held))
    for kept in held:
        is_old = before_s is not None and is_day_before(kept.order[0], before_s)
        if not is_old and trimmed.left_bytes <= max_bytes:
            continue
        try:
            if kept.sealed and kept.sealed.is_merged:
                delete_replaced(kept.sealed)  # first, or they would be seen again
            kept.path.unlink()
        except FileNotFoundError:
            pass
        except OSError:
            continue
        tell(kept)
        trimmed.files += 1
        trimmed.bytes += kept.size
        trimmed.left_bytes -= kept.size
    _drop_empty({kept.path.parent for kept in held if kept.sealed})
    return trimmed


def oldest_allowed_s(now_s: float, keep_days: float) -> float:
    """Give the Unix time before which nothing is kept."""
    return now_s - keep_days * DAY_S


def _drop_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        for empty in (folder, folder.parent, folder.parent.parent):  # date, version, model
            try:
                empty.rmdir()
            except OSError:
                break


def _damaged(folder: Path) -> list[Path]:
    try:
        return [path for path in (folder / DAMAGED).iterdir() if path.is_file()]
    except OSError:
        return []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _modified_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
