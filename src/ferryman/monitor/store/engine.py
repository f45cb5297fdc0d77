"""DuckDB, as records use it: no network, no extension that isn't built in, no Python variable taken for a table."""

from pathlib import Path
from typing import Any

from ferryman.core.errors import MissingExtra

Connection = Any  # duckdb.DuckDBPyConnection, of a package that may be missing
_CONFIG = {
    "threads": 1,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}


def connect(*, memory_mb: int = 512, threads: int = 1) -> Connection:
    """Open a database in memory; raises MissingExtra without DuckDB."""
    try:
        import duckdb
    except ImportError:
        raise MissingExtra(
            "records are sealed and queried by DuckDB, which is not installed", hint="pip install 'ferryman[records]'"
        ) from None
    config = {**_CONFIG, "threads": threads, "memory_limit": f"{memory_mb}MB", "temp_directory": ""}
    connection = duckdb.connect(":memory:", config=config)
    connection.execute("SET enable_progress_bar = false; SET TimeZone = 'UTC'")
    return connection


def is_installed() -> bool:
    """Tell whether DuckDB can be imported."""
    try:
        import duckdb  # noqa: F401
    except ImportError:
        return False
    return True


def name(text: str) -> str:
    """Quote a name for SQL."""
    return '"' + text.replace('"', '""') + '"'


def literal(text: str | Path) -> str:
    """Quote a text for SQL."""
    return "'" + str(text).replace("'", "''") + "'"


def exact(path: Path) -> str:
    """Quote a path that DuckDB must not take for a pattern."""
    return literal("".join(f"[{sign}]" if sign in "*?[" else sign for sign in str(path)))


def failures() -> tuple[type[Exception], ...]:
    """Give what reading and writing with DuckDB may raise."""
    try:
        import duckdb
    except ImportError:
        return (OSError,)
    return (OSError, duckdb.Error)
