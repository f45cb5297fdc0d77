"""Turn a journal into Parquet files, one for each model, version and day; each appears whole or not at all."""

import itertools
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from ferryman.core.durable import sync_folder
from ferryman.monitor.store.columns import FIXED, Part, parts, table
from ferryman.monitor.store.engine import Connection, connect, literal, name
from ferryman.monitor.store.layout import SEALED, UNFINISHED, partition, sealed_files
from ferryman.monitor.store.rows import Raw

MOST_PARTS = 200
"""Most files that one journal becomes; what is of still more models lies in one file together."""
_OTHERS = ("", "", "")
_CHUNK = 20_000
_PIECE = 2000  # records that are Python's objects at once: of each it takes some 5 kB
_OPTIONS = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3, ROW_GROUP_SIZE 100000"


def seal(folder: Path, segment: str, raws: Iterable[Raw], *, today: str) -> list[Path]:
    """Write a segment's records as Parquet; gives the files. `today` is the date of records that have no time.

    May be repeated after a kill: what an earlier attempt left is replaced. Raises OSError or a DuckDB error, and has
    then left only what the next attempt replaces. Few records are held at once, besides DuckDB's columns of all.
    """
    for stale in sealed_files(folder):
        if stale.segment == segment:
            stale.path.unlink(missing_ok=True)
    connection = connect()
    tables: dict[Part, str] = {}
    try:
        rest = iter(raws)
        while piece := list(itertools.islice(rest, _PIECE)):
            for key, part in parts(piece, MOST_PARTS, today=today, known=tables).items():
                ingest(connection, part, tables.setdefault(key, f"part_{len(tables)}"))
        written = []
        for key, name_ in tables.items():
            place = partition(*(key if key != _OTHERS else ("_others", "_others", today)))
            query = f"SELECT * FROM {name_} ORDER BY at_s"  # noqa: S608 - no text from outside
            written.append(write(folder, segment, place, connection, query))
            connection.execute(f"DROP TABLE {name_}")
        return written
    finally:
        connection.close()


def ingest(connection: Connection, raws: Sequence[Raw], into: str) -> None:
    """Append records to a table, made if it is not there, with a column for each signal."""
    columns = ", ".join(f"{name(column)} {kind}" for column, kind in FIXED.items())
    connection.execute(f"CREATE TABLE IF NOT EXISTS {into} ({columns})")
    known = set(FIXED)
    for start in range(0, len(raws), _CHUNK):
        made = table(raws[start : start + _CHUNK])
        for column in [column for column in made if column not in known]:
            kind = "DOUBLE" if column.startswith("s_") else "VARCHAR"
            connection.execute(f"ALTER TABLE {into} ADD COLUMN IF NOT EXISTS {name(column)} {kind}")
            known.add(column)
        connection.register("_chunk", made)
        connection.execute(f"INSERT INTO {into} BY NAME SELECT * REPLACE (NULLIF(item, -1) AS item) FROM _chunk")  # noqa: S608
        connection.unregister("_chunk")


def write(folder: Path, segment: str, place: Path, connection: Connection, query: str) -> Path:
    """Write what a query gives as a sealed file of a segment, in a folder below `records`, whole or not at all."""
    unfinished, crc = write_unfinished(folder, segment, connection, query)
    final = folder / SEALED / place / f"{segment}.{crc:08x}.parquet"
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        unfinished.replace(final)
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(final.parent)
    return final


def write_unfinished(folder: Path, segment: str, connection: Connection, query: str) -> tuple[Path, int]:
    """Write what a query gives as Parquet that nobody reads yet, on the disk; gives the file and its CRC-32."""
    unfinished = folder / UNFINISHED / f"{segment}.parquet"
    unfinished.unlink(missing_ok=True)
    try:
        connection.execute(f"COPY ({query}) TO {literal(unfinished)} ({_OPTIONS})")
        return unfinished, _synced_crc(unfinished)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _synced_crc(path: Path) -> int:
    with path.open("rb") as opened:
        crc = 0
        while chunk := opened.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
        os.fsync(opened.fileno())
    return crc
