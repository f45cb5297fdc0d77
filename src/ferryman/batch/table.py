"""Rows of a .parquet, .csv, .tsv or .jsonl file, read as a stream."""

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from ferryman.batch.chunk import Cells
from ferryman.core.artifact import digest_file
from ferryman.core.errors import DataError, InputError
from ferryman.monitor.store.engine import connect, exact, failures, name

TABLES = (".parquet", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz")
MEMORY_MB = 1024
_LONGEST_CELL = 64 * 1024 * 1024  # characters
_AT_ONCE = 256
_PLAIN = ("BOOLEAN", "VARCHAR", "FLOAT", "DOUBLE", *(f"{sign}{kind}" for sign in ("", "U") for kind in (
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT")))  # fmt: skip


def is_table(path: Path) -> bool:
    """Tell a table from other files by its name."""
    return path.name.lower().endswith(TABLES)


@dataclass(frozen=True, slots=True)
class TextTable:
    """Be a CSV, TSV or JSON lines file. Cells of a CSV are text, as `ferryman infer` reads them."""

    path: Path
    digest: str
    columns: Mapping[str, str]
    total: int | None = None

    def rows(self, start: int) -> Iterator[Cells]:
        """Give the rows from one on; raises DataError that names the line."""
        read = _json_rows if ".jsonl" in self.path.name.lower() else _csv_rows
        for place, row in enumerate(read(self.path)):
            if place >= start:
                yield row


@dataclass(frozen=True, slots=True)
class ParquetTable:
    """Be a Parquet file, read by DuckDB."""

    path: Path
    digest: str
    columns: Mapping[str, str]
    total: int | None

    def rows(self, start: int) -> Iterator[Cells]:
        """Give the rows from one on: what has no number or text of its own in JSON is text."""
        names = list(self.columns)
        wanted = ", ".join(_cell(column, kind) for column, kind in self.columns.items())
        connection = connect(memory_mb=MEMORY_MB)
        try:
            connection.execute(
                f"SELECT {wanted} FROM read_parquet({exact(self.path)}, file_row_number = true) "  # noqa: S608 - quoted
                f"WHERE file_row_number >= {int(start)}"
            )
            while found := connection.fetchmany(_AT_ONCE):
                for cells in found:
                    yield dict(zip(names, cells, strict=True))
        except failures() as error:
            raise DataError(f"{self.path} can't be read: {_first_line(error)}", hint="is the file whole?") from None
        finally:
            connection.close()


def open_table(path: Path) -> TextTable | ParquetTable:
    """Look at a table's columns; raises DataError or InputError that says what is wrong with it."""
    if not path.is_file():
        raise InputError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}", hint="name a file")
    if path.suffix.lower() == ".parquet":
        columns, total = _look_at_parquet(path)
        return ParquetTable(path, digest_file(path), columns, total)
    first = next(iter(_json_rows(path) if ".jsonl" in path.name.lower() else _csv_rows(path)), None)
    if first is None:
        raise DataError(f"{path} holds no rows", hint="is it the right file?")
    return TextTable(path, digest_file(path), dict.fromkeys(first, "VARCHAR"))


def _look_at_parquet(path: Path) -> tuple[dict[str, str], int]:
    connection = connect(memory_mb=MEMORY_MB)
    try:
        described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({exact(path)})").fetchall()  # noqa: S608
        total = int(connection.execute(f"SELECT count(*) FROM read_parquet({exact(path)})").fetchone()[0])  # noqa: S608
    except failures() as error:
        raise DataError(f"{path} is no whole Parquet file: {_first_line(error)}", hint="write it again") from None
    finally:
        connection.close()
    if total == 0:
        raise DataError(f"{path} holds no rows", hint="is it the right file?")
    return {str(row[0]): str(row[1]) for row in described}, total


def _cell(column: str, kind: str) -> str:
    is_whole = kind in _PLAIN or kind.endswith("]")
    return name(column) if is_whole else f"CAST({name(column)} AS VARCHAR)"


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return io.TextIOWrapper(cast(IO[bytes], gzip.GzipFile(path)), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _csv_rows(path: Path) -> Iterator[Cells]:
    csv.field_size_limit(_LONGEST_CELL)
    line = 0
    try:
        with _open(path) as stream:
            reader = csv.reader(stream, delimiter="\t" if ".tsv" in path.suffixes else ",", strict=True)
            columns = [cell.strip() for cell in next(reader, [])]
            if not columns or len(set(columns)) != len(columns) or "" in columns:
                raise DataError(
                    f"{path}: line 1 must name each column once, but is {', '.join(columns)!r:.200}",
                    hint="write the columns' names in its first line",
                )
            for cells in reader:
                line = reader.line_num
                if cells and len(cells) != len(columns):
                    raise DataError(
                        f"{path}, line {line}: {len(cells)} cells, but {len(columns)} columns",
                        hint="put a cell that holds a separator or a line's end in double quotes",
                    )
                if cells:
                    yield dict(zip(columns, cells, strict=True))
    except (csv.Error, OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path}, after line {line}: {error}", hint="it must be UTF-8 text, quotes doubled") from None


def _json_rows(path: Path) -> Iterator[Cells]:
    hint = 'write one object a line: {"column": value, ...}'
    number = 0
    try:
        with _open(path) as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                row: Any = json.loads(line)  # the user's own
                if not isinstance(row, dict):
                    raise DataError(f"{path}, line {number} is not an object: {line:.80}", hint=hint)
                yield row
    except (ValueError, RecursionError, OSError, EOFError) as error:
        raise DataError(f"{path}, line {number or 1} can't be read: {error!s:.200}", hint=hint) from None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
