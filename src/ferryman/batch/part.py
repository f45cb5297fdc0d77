"""One chunk's answers as a Parquet file: the same rows give the same bytes."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ferryman.core.errors import UserError
from ferryman.monitor.store.engine import connect, exact, failures, literal, name

MEMORY_MB = 1024
OPTIONS = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3, ROW_GROUP_SIZE 100000"
_LONGEST_ROW = 64 * 1024 * 1024  # bytes of JSON


def write_part(path: Path, columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> tuple[str, int]:  # JSON
    """Write rows to a new file and to the disk; gives its sha256 and its bytes."""
    lines = path.with_suffix(".jsonl")
    count = 0
    try:
        with lines.open("w", encoding="ascii") as opened:
            for row in rows:
                opened.write(json.dumps(row, allow_nan=False) + "\n")
                count += 1
        connection = connect(memory_mb=MEMORY_MB)
        try:
            connection.execute(f"COPY ({_read(lines, columns, count)}) TO {literal(path)} ({OPTIONS})")
        finally:
            connection.close()
    except failures() as error:
        raise UserError(f"{path} can't be written: {error!s:.300}", hint="is there room on that disk?") from None
    finally:
        lines.unlink(missing_ok=True)
    return synced(path), path.stat().st_size


def join(parts: Sequence[Path], into: Path) -> None:
    """Write all parts, in order, as one .parquet, .csv or .jsonl file; raises UserError."""
    connection = connect(memory_mb=MEMORY_MB)
    files = "[" + ", ".join(exact(part) for part in parts) + "]"
    try:
        kinds = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({files})").fetchall()  # noqa: S608 - quoted
        is_csv = into.suffix == ".csv"
        wanted = ", ".join(
            f"CAST(to_json({name(column)}) AS VARCHAR) AS {name(column)}"
            if is_csv and (kind.endswith("]") or kind.startswith("MAP"))
            else name(column)
            for column, kind, *_ in kinds
        )
        form = {".csv": "FORMAT csv, HEADER", ".jsonl": "FORMAT json", ".parquet": OPTIONS}[into.suffix]
        connection.execute(f"COPY (SELECT {wanted} FROM read_parquet({files})) TO {literal(into)} ({form})")  # noqa: S608
    except failures() as error:
        raise UserError(f"{into} can't be written: {error!s:.300}", hint="is there room on that disk?") from None
    finally:
        connection.close()
    synced(into)


def synced(path: Path) -> str:
    """Bring a file to the disk; gives its sha256."""
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        os.fsync(opened.fileno())
    return digest


def _read(lines: Path, columns: Mapping[str, str], count: int) -> str:
    if count == 0:
        nothing = ", ".join(f"CAST(NULL AS {kind}) AS {name(column)}" for column, kind in columns.items())
        return f"SELECT {nothing} WHERE false"
    kinds = ", ".join(f"{literal(column)}: {literal(kind)}" for column, kind in columns.items())
    return (
        f"SELECT * FROM read_json({exact(lines)}, format = 'newline_delimited', columns = {{{kinds}}}, "  # noqa: S608
        f"maximum_object_size = {_LONGEST_ROW})"
    )
