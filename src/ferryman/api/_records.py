"""Records of requests: asked, written elsewhere, checked. A folder is a server's (`--monitor`), or its records'."""

from collections.abc import Sequence
from pathlib import Path

from ferryman.monitor.store.check import Checked, check
from ferryman.monitor.store.layout import records_in
from ferryman.monitor.store.query import EVERYTHING, Rows, Scope, counts, export, latest, query


def records(
    folder: str | Path, sql: str = "", params: Sequence[object] = (), *, scope: Scope = EVERYTHING, limit: int = 20
) -> Rows:
    """Give the last requests that a folder of records holds, or what a SELECT over the table `records` gives."""
    return (
        query(records_in(Path(folder)), sql, params, scope=scope)
        if sql
        else latest(records_in(Path(folder)), limit, scope=scope)
    )


def count_records(
    folder: str | Path, by: Sequence[str] = ("model", "version", "outcome"), *, scope: Scope = EVERYTHING
) -> Rows:
    """Count requests by some of: model, version, outcome, transport, day, hour."""
    return counts(records_in(Path(folder)), by=by, scope=scope)


def export_records(folder: str | Path, file: str | Path, *, scope: Scope = EVERYTHING) -> int:
    """Write records to a .parquet, .csv or .json file; gives the number of rows."""
    return export(records_in(Path(folder)), Path(file), scope=scope)


def check_records(folder: str | Path) -> Checked:
    """Read every file of a folder of records, and say what is whole and what was lost; changes nothing."""
    return check(records_in(Path(folder)))
