"""Ask records: DuckDB over sealed Parquet and what the journals hold beyond it; it only reads, beside the writer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferryman.core.errors import UserError
from ferryman.monitor.store.columns import FIXED, signal_column
from ferryman.monitor.store.engine import Connection, connect, exact, failures, literal, name
from ferryman.monitor.store.journal import read_segment
from ferryman.monitor.store.layout import JOURNAL, SEALED, SealedFile, day_of, sealed_files, segments
from ferryman.monitor.store.rows import Raw
from ferryman.monitor.store.seal import ingest

_TRIES = 5
_MEMORY_MB = 1024
_ONE_A_REQUEST = "(item IS NULL OR item = 0)"
_GROUPS = ("model", "version", "outcome", "transport", "day", "hour")


@dataclass(frozen=True, slots=True)
class Rows:
    """Hold what a query gave; `skipped` names damaged files that were left out."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    skipped: tuple[str, ...] = ()

    def as_dicts(self) -> list[dict[str, Any]]:
        """Give each row by the columns' names."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True, slots=True)
class Scope:
    """Say which records are meant: None where it doesn't matter; Unix times, `until_s` is left out itself."""

    model: str | None = None
    version: str | None = None
    since_s: float | None = None
    until_s: float | None = None


EVERYTHING = Scope()


def query(
    folder: Path, sql: str, params: Sequence[object] | Mapping[str, object] = (), *, scope: Scope = EVERYTHING
) -> Rows:
    """Run one SELECT over the table `records` (see docs/monitoring/records.md); reads nothing but the folder.

    Raises UserError for SQL that is wrong or is no SELECT, and MissingExtra without DuckDB.
    """
    with Reader(folder, scope) as reader:
        return reader.select(sql, params)


def latest(folder: Path, limit: int = 20, *, scope: Scope = EVERYTHING) -> Rows:
    """Give the last requests, the newest first, with the signals of their first item."""
    sql = f"SELECT * FROM records WHERE {_ONE_A_REQUEST} ORDER BY at_s DESC LIMIT $1"  # noqa: S608 - our own words
    return query(folder, sql, [limit], scope=scope)


def counts(folder: Path, *, by: Sequence[str] = ("model", "version", "outcome"), scope: Scope = EVERYTHING) -> Rows:
    """Count requests by some of: model, version, outcome, transport, day, hour; raises UserError for any other."""
    for group in by:
        if group not in _GROUPS:
            raise UserError(f"records can't be counted by '{group}'", hint=f"by some of {', '.join(_GROUPS)}")
    whens = {"day": "strftime(time, '%Y-%m-%d') AS day", "hour": "strftime(time, '%Y-%m-%d %H:00') AS hour"}
    figures = ("count(*) AS requests", "median(total_s) AS p50_s", "quantile_cont(total_s, 0.99) AS p99_s")
    listed = ", ".join([*(whens.get(group, name(group)) for group in by), *figures])
    sql = f"SELECT {listed} FROM records WHERE {_ONE_A_REQUEST}"  # noqa: S608 - of our own words
    return query(folder, f"{sql} GROUP BY ALL ORDER BY ALL" if by else sql, scope=scope)


def window(folder: Path, signals: Sequence[str], *, scope: Scope = EVERYTHING) -> dict[str, list[Any]]:
    """Give signals of each item by name, in the order of time, with `at_s` and `id`; one that never was is all None."""
    wanted = [signal_column(kind, signal) for signal in signals for kind in ("s", "c")]
    with Reader(folder, scope) as reader:
        known = {column.lower(): column for column in reader.columns}
        shown = [name(known[column.lower()]) if column.lower() in known else "NULL" for column in wanted]
        listed = "".join(f", {each}" for each in shown)
        rows = reader.select(
            f"SELECT at_s, id{listed} FROM records WHERE item IS NOT NULL ORDER BY at_s, id, item"  # noqa: S608 - of quoted names
        ).rows
    made: dict[str, list[Any]] = {"at_s": [row[0] for row in rows], "id": [row[1] for row in rows]}
    for place, signal in enumerate(signals):
        number, text = 2 + 2 * place, 3 + 2 * place
        made[signal] = [row[text] if row[number] is None else row[number] for row in rows]
    return made


def export(folder: Path, file: Path, *, scope: Scope = EVERYTHING) -> int:
    """Write records to a .parquet, .csv or .json file, whole or not at all; gives the number of rows."""
    kinds = {
        ".parquet": "FORMAT parquet, COMPRESSION zstd",
        ".csv": "FORMAT csv, HEADER",
        ".json": "FORMAT json, ARRAY true",
    }
    if file.suffix not in kinds:
        raise UserError(f"records can't be written as '{file.suffix}'", hint="name a .parquet, .csv or .json file")
    unfinished = file.with_name(f".{file.name}.unfinished")
    with Reader(folder, scope, writes=file.parent) as reader:
        try:
            [(rows,)] = reader.run(
                f"COPY (FROM records ORDER BY at_s) TO {literal(unfinished)} ({kinds[file.suffix]})"
            ).rows
            unfinished.replace(file)
        except OSError as error:
            raise UserError(f"{file} can't be written: {error.strerror}", hint="name another file") from None
        finally:
            unfinished.unlink(missing_ok=True)
    return int(rows)


class Reader:
    """Hold a database whose table `records` is the folder as it was when this was opened; close it by `with`."""

    def __init__(self, folder: Path, scope: Scope, *, writes: Path | None = None) -> None:
        if not (folder / SEALED).is_dir() and not (folder / JOURNAL).is_dir():
            raise UserError(
                f"{folder} holds no records", hint="name the folder that `ferryman serve` was given for them"
            )
        self._folder, self._scope = folder.resolve(), scope
        self._connection: Connection = connect(memory_mb=_MEMORY_MB, threads=2)
        self._damaged: set[Path] = set()
        self._read: list[SealedFile] = []
        self._make()
        places = [self._folder, *([writes.resolve()] if writes else [])]
        self._connection.execute(f"SET allowed_directories = [{', '.join(literal(f'{place}/') for place in places)}]")
        self._connection.execute("SET enable_external_access = false; SET lock_configuration = true")
        self.columns = [row[0] for row in self._connection.execute("DESCRIBE records").fetchall()]

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()

    def select(self, sql: str, params: Sequence[object] | Mapping[str, object] = ()) -> Rows:
        """Run one SELECT."""
        import duckdb

        try:
            statements = self._connection.extract_statements(sql)
        except duckdb.Error as error:
            raise _wrong(error) from None
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise UserError("only one SELECT can be run on records", hint="SELECT ... FROM records")
        return self.run(statements[0], params)

    def run(self, statement: Any, params: Sequence[object] | Mapping[str, object] = ()) -> Rows:  # text, or duckdb's
        """Run a statement, again where a file was sealed, deleted or found damaged meanwhile; raises UserError."""
        for _ in range(_TRIES):
            try:
                self._connection.execute(statement, params or None)
                names = tuple(column[0] for column in self._connection.description)
                return Rows(names, self._connection.fetchall(), self.skipped)
            except failures() as error:
                if not self._is_mendable():
                    raise _wrong(error) from None
                self._make()
        raise UserError(f"{self._folder} changes too fast to be read", hint="try again")

    @property
    def skipped(self) -> tuple[str, ...]:
        """Name the damaged files that are left out."""
        return tuple(path.relative_to(self._folder).as_posix() for path in sorted(self._damaged))

    def _is_mendable(self) -> bool:
        """Tell whether files are gone, or damaged and not known as such: reading again then helps."""
        gone = any(not one.path.exists() for one in self._read)
        damaged = {one.path for one in self._read if one.path.exists() and not one.is_whole()}
        self._damaged |= damaged
        return gone or bool(damaged)

    def _make(self) -> None:
        """Make `records`."""
        for attempt in range(_TRIES):
            tail, in_tail = self._tail()
            self._read = [one for one in self._sealed() if one.segment not in in_tail and one.path not in self._damaged]
            try:
                self._create(tail)
            except failures() as error:
                if attempt == _TRIES - 1 or not self._is_mendable():
                    raise _wrong(error) from None
                continue
            return

    def _tail(self) -> tuple[list[Raw], set[str]]:
        """Read journals; a segment that was read here is not read as Parquet, so that nothing counts twice."""
        raws: list[Raw] = []
        read: set[str] = set()
        for path in segments(self._folder):
            try:
                raws += read_segment(path).raws
            except FileNotFoundError:
                continue  # sealed meanwhile
            read.add(path.stem)
        return raws, read

    def _sealed(self) -> list[SealedFile]:
        scope = self._scope
        low = day_of(scope.since_s) if scope.since_s is not None else ""
        high = day_of(scope.until_s) if scope.until_s is not None else "9999"
        # Those of more models in one file, and what had no time, may be anything.
        found = [one for one in sealed_files(self._folder, scope.model, scope.version) if low <= one.day <= high]
        mixed = [one for one in sealed_files(self._folder, "_others") if one not in found]
        return found + mixed

    def _create(self, tail: list[Raw]) -> None:
        run = self._connection.execute
        run("DROP VIEW IF EXISTS records; DROP TABLE IF EXISTS journal")
        ingest(self._connection, tail, "journal")
        whole = "FROM journal"
        if self._read:
            paths = ", ".join(exact(one.path) for one in self._read)
            whole += f" UNION ALL BY NAME FROM read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"
        columns = "* EXCLUDE (at_s), at_s, make_timestamp((at_s * 1e6)::BIGINT) AS time"
        run(f"CREATE VIEW records AS SELECT {columns} FROM ({whole}) WHERE {self._where()}")  # noqa: S608 - quoted

    def _where(self) -> str:
        scope, parts = self._scope, ["true"]
        if scope.model is not None:
            parts.append(f"model = {literal(scope.model)}")
        if scope.version is not None:
            parts.append(f"version = {literal(scope.version)}")
        if scope.since_s is not None:
            parts.append(f"at_s >= {float(scope.since_s)!r}")
        if scope.until_s is not None:
            parts.append(f"at_s < {float(scope.until_s)!r}")
        return " AND ".join(parts)


def _wrong(error: BaseException) -> UserError:
    first = next(iter(str(error).splitlines()), type(error).__name__)
    return UserError(
        f"records: {first}",
        hint=f'columns: {", ".join(FIXED)}, and "s_NAME", "c_NAME" for each signal, quoted as names hold dots',
    )
