"""Look through a folder of records: what is whole, what a killed writer left, what is damaged."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from ferryman.core.errors import UserError
from ferryman.monitor.store.claim import writer_of
from ferryman.monitor.store.journal import read_segment
from ferryman.monitor.store.layout import DAMAGED, JOURNAL, SEALED, sealed_files, segments
from ferryman.monitor.store.payloads import payloads


@dataclass(frozen=True, slots=True)
class Fault:
    """Name one file that is not whole, and what is known of the loss."""

    file: str
    what: str


@dataclass(frozen=True, slots=True)
class Checked:
    """Say what a folder of records holds; sizes are bytes. `writer` is a process id, "" where nobody writes."""

    folder: Path
    writer: str
    sealed_files: int
    sealed_bytes: int
    journals: int
    journal_records: int
    journal_bytes: int
    payloads: int
    faults: tuple[Fault, ...]
    free_bytes: int

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing is damaged."""
        return not self.faults


def check(folder: Path) -> Checked:
    """Read every file, and compare it with the CRC-32 that it was written with; changes nothing."""
    if not (folder / SEALED).is_dir() and not (folder / JOURNAL).is_dir():
        raise UserError(f"{folder} holds no records", hint="name the folder that `ferryman serve` was given for them")
    faults: list[Fault] = []
    sealed = sealed_files(folder)
    for one in sealed:
        if not one.is_whole() and one.path.exists():
            faults.append(Fault(one.path.relative_to(folder).as_posix(), "its bytes are not those that were written"))
    writer, journals, records, size = writer_of(folder), segments(folder), 0, 0
    for path in journals:
        is_written = bool(writer) and path == journals[-1]
        try:
            segment = read_segment(path)
        except FileNotFoundError:
            continue  # sealed meanwhile
        records += len(segment.raws)
        size += segment.end
        faults += _faults_of(
            f"{JOURNAL}/{path.name}", segment.damage.gaps + segment.undecodable, segment.damage.gap_bytes
        )
        if segment.damage.torn_bytes and not is_written:
            what = f"a torn end of {segment.damage.torn_bytes} bytes: it was being written when its writer was killed"
            faults.append(Fault(f"{JOURNAL}/{path.name}", what))
    faults += [Fault(f"{DAMAGED}/{path.name}", _reason(path)) for path in sorted(_files(folder / DAMAGED))]
    return Checked(
        folder=folder,
        writer=writer,
        sealed_files=len(sealed),
        sealed_bytes=sum(one.path.stat().st_size for one in sealed if one.path.exists()),
        journals=len(journals),
        journal_records=records,
        journal_bytes=size,
        payloads=len(payloads(folder)),
        faults=tuple(faults),
        free_bytes=shutil.disk_usage(folder).free,
    )


def _faults_of(name: str, places: int, size: int) -> list[Fault]:
    if not places:
        return []
    return [Fault(name, f"{places} places ({size} bytes) can't be believed; all other records were recovered")]


def _reason(path: Path) -> str:
    kind = path.name.split(".")[1] if path.name.count(".") > 1 else ""
    reasons = {
        "corrupt": "set aside after all records that could be read were sealed",
        "unsealable": "set aside: DuckDB could not take it",
    }
    return reasons.get(kind, "set aside at a start: it does not begin and end as Parquet does")


def _files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_file()]
    except OSError:
        return []
