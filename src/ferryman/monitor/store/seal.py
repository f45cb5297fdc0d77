"""Turn a journal into Parquet files, one for each model, version and day; each appears whole or not at all."""

import os
import zlib
from collections.abc import Sequence
from pathlib import Path

from ferryman.monitor.store.columns import FIXED, parts, table
from ferryman.monitor.store.engine import Connection, connect, literal, name
from ferryman.monitor.store.layout import SEALED, UNFINISHED, partition, sealed_files, sync_folder
from ferryman.monitor.store.rows import Raw

MOST_PARTS = 200
"""Most files that one journal becomes; what is of still more models lies in one file together."""
_OTHERS = ("", "", "")
_CHUNK = 20_000
_OPTIONS = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3, ROW_GROUP_SIZE 100000"


def seal(folder: Path, segment: str, raws: Sequence[Raw], *, today: str) -> list[Path]:
    """Write a segment's records as Parquet; gives the files. `today` is the date of records that have no time.

    May be repeated after a kill: what an earlier attempt left is replaced. Raises OSError or a DuckDB error, and has
    then left only what the next attempt replaces.
    """
    for stale in sealed_files(folder):
        if stale.segment == segment:
            stale.path.unlink(missing_ok=True)
    connection = connect()
    written = []
    try:
        for key, part in parts(raws, MOST_PARTS, today=today).items():
            _ingest_anew(connection, part)
            written.append(
                _write(folder, segment, key if key != _OTHERS else ("_others", "_others", today), connection)
            )
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


def _ingest_anew(connection: Connection, raws: Sequence[Raw]) -> None:
    connection.execute("DROP TABLE IF EXISTS sealing")
    ingest(connection, raws, "sealing")


def _write(folder: Path, segment: str, key: tuple[str, str, str], connection: Connection) -> Path:
    unfinished = folder / UNFINISHED / f"{segment}.parquet"
    unfinished.unlink(missing_ok=True)
    try:
        connection.execute(f"COPY (SELECT * FROM sealing ORDER BY at_s) TO {literal(unfinished)} ({_OPTIONS})")  # noqa: S608 - no text from outside
        crc = _synced_crc(unfinished)
        final = folder / SEALED / partition(*key) / f"{segment}.{crc:08x}.parquet"
        final.parent.mkdir(parents=True, exist_ok=True)
        unfinished.replace(final)
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(final.parent)
    return final


def _synced_crc(path: Path) -> int:
    with path.open("rb") as opened:
        crc = 0
        while chunk := opened.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
        os.fsync(opened.fileno())
    return crc
