"""Feedback in files: CSV with a header, JSON lines (or one list), Parquet."""

import csv
import json
from pathlib import Path
from typing import Any

from ferryman.core.errors import DataError
from ferryman.monitor.store.engine import connect, exact, failures

_KINDS = ".csv, .jsonl, .ndjson, .json or .parquet"


def read_rows(file: Path) -> list[Any]:  # JSON
    """Read rows as they are; raises DataError for a file that can't be read, and MissingExtra for Parquet's DuckDB."""
    readers = {".csv": _csv, ".jsonl": _lines, ".ndjson": _lines, ".json": _json, ".parquet": _parquet}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise DataError(f"{file}: feedback can't be read from '{file.suffix}'", hint=f"name a {_KINDS} file")
    try:
        return reader(file)
    except OSError as error:
        raise DataError(
            f"{file} can't be read: {error.strerror or error}", hint="look at its name and rights"
        ) from None
    except (ValueError, csv.Error, RecursionError) as error:
        raise DataError(f"{file} can't be read: {error}", hint=f"a {file.suffix} file with id and truth") from None


def _csv(file: Path) -> list[Any]:  # JSON
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream, restkey="(more cells than the header)"))
    if rows and "id" not in rows[0]:
        raise ValueError(f"its header has no 'id' but {', '.join(map(str, rows[0]))[:200]}")
    return rows


def _lines(file: Path) -> list[Any]:  # JSON
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"line {number} is no JSON: {error}") from None
    return rows


def _json(file: Path) -> list[Any]:  # JSON
    told = json.loads(file.read_text(encoding="utf-8"))
    rows = told.get("feedback") if isinstance(told, dict) else told
    if not isinstance(rows, list):
        raise ValueError("it holds no list")
    return rows


def _parquet(file: Path) -> list[Any]:  # JSON
    if not file.is_file():
        raise FileNotFoundError(2, "No such file or directory")
    connection = connect()
    try:
        table = f"read_parquet({exact(file)})"
        described = connection.execute(f"DESCRIBE SELECT * FROM {table}")  # noqa: S608 - quoted
        kinds = {row[0]: str(row[1]) for row in described.fetchall()}
        # A time with a zone as Python's own would need a package more.
        at = ' REPLACE (epoch("at") AS "at")' if kinds.get("at", "").startswith(("TIMESTAMP", "DATE")) else ""
        answered = connection.execute(f"SELECT *{at} FROM {table}")  # noqa: S608 - quoted
        names = [column[0] for column in answered.description]
        return [dict(zip(names, row, strict=True)) for row in answered.fetchall()]
    except failures() as error:
        raise ValueError(next(iter(str(error).splitlines()), "it is no Parquet")) from None
    finally:
        connection.close()
