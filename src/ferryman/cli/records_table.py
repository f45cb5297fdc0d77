"""Show records to people."""

from datetime import datetime
from typing import Any

from ferryman.monitor.store.check import Checked
from ferryman.monitor.store.query import Rows
from ferryman.verify.columns import Cell, Column, Paint, fit, rows

_FIRST = ("time", "model", "version", "outcome", "id", "total_s")
_HIDDEN = {"at_s", "item", "trace", "transport", "asks", "rows", "queue_s", "prepare_s", "infer_s", "finish_s"}
_LONGEST = 40


def render_rows(found: Rows, *, width: int, paint: Paint) -> str:
    """Give a line a row; of whole records what matters first, as far as the width goes."""
    if not found.rows:
        return "no records\n"
    names = _ordered(found.columns)
    columns = [
        Column(
            name,
            tuple(Cell(_shown(row[found.columns.index(name)])) for row in found.rows),
            is_text=not _is_number(found, name),
            gives_way=max(place - len(_FIRST), 0) if len(names) > len(_FIRST) else 0,
        )
        for place, name in enumerate(names)
    ]
    kept, dropped = fit(columns, width)
    lines = rows(kept, paint)
    if dropped:
        lines.append(paint(f"+ {', '.join(column.heading for column in dropped)}: --json shows all", "dim"))
    return "\n".join(lines) + "\n"


def render_checked(checked: Checked, *, paint: Paint) -> str:
    """Give what a folder holds, and a line for each fault."""
    writer = f"process {checked.writer} writes" if checked.writer else "nobody writes"
    lines = [
        f"{checked.folder}: {paint('whole', 'green') if checked.is_whole else paint('damaged', 'red')}, {writer}",
        f"  sealed    {checked.sealed_files} Parquet files, {checked.sealed_bytes / 1e6:.1f} MB",
        f"  journals  {checked.journals}, {checked.journal_records} records, {checked.journal_bytes / 1e6:.1f} MB",
        f"  payloads  {checked.payloads}",
        f"  free      {checked.free_bytes / 1e6:.0f} MB",
    ]
    return (
        "\n".join([*lines, *(f"  {paint('✗', 'red')} {fault.file}: {fault.what}" for fault in checked.faults)]) + "\n"
    )


def _ordered(columns: tuple[str, ...]) -> list[str]:
    if not set(_FIRST) <= set(columns):
        return list(columns)
    return [*_FIRST, *(name for name in columns if name not in _FIRST and name not in _HIDDEN)]


def _is_number(found: Rows, name: str) -> bool:
    place = found.columns.index(name)
    return all(isinstance(row[place], int | float) or row[place] is None for row in found.rows)


def _shown(value: Any) -> str:  # whatever SQL gives
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    text = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in str(value))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
