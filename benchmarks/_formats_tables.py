"""Write what became of each model in each format as Markdown tables."""

import json
import os
import time
from pathlib import Path
from typing import Any

from benchmarks._tables import table

Row = dict[str, Any]  # JSON
_HEAD = ("format", "precision", "verdict", "tensor error", "answers", "metric", "drop", "MB", "time")
_SIGNS = {"accepted": "✓", "repaired": "↻", "refused": "✗", "failed": "✗"}
_HELD = ("accepted", "repaired")
_ANSWERS = (
    ("unmatched", "{:.1%} lone boxes"),
    ("label_changed", "{:.1%} other labels"),
    ("max_box_diff", "{:.2g} px"),
    ("score_shift", "score {:.1g}"),
)


def render(
    folder: Path, models: tuple[str, ...], places: dict[str, tuple[str, ...]], precisions: tuple[str, ...]
) -> str:
    """Give a table for each model, in the order of formats; a cell that nothing was measured for says so.

    `places` has the targets of each format, whose fastest are told below the table.
    """
    formats = tuple(places)
    parts = [_written()]
    known = {path.stem for model in models for path in (folder / model / "rows").glob("*-*.json")}
    for model in models:
        rows = folder / model / "rows"
        source, latency = _read(rows / "source.json"), _read(rows / "latency.json")
        ordered = [
            row for one in formats for precision in precisions if (row := _read(rows / f"{one}-{precision}.json"))
        ]
        if not source or not ordered:
            parts.append(f"### {model}\n\nNot measured yet.")
            continue
        notes = [f"- `{row['name']}`: {_reason(row)}" for row in ordered if _reason(row)]
        missing = [
            name
            for one in formats
            for precision in precisions
            if (name := f"{one}-{precision}") in known and not (rows / f"{name}.json").is_file()
        ]
        notes += [f"- NOT MEASURED YET: {', '.join(f'`{name}`' for name in missing)}."] if missing else []
        title = (
            f"### {model}\n\nSource: {source['format']}, {source['metric']} {source['value']:.3f} on "
            f"{source['samples']} samples, {source['size_mb']:.2f} MB. {_timing(latency)}"
        )
        parts += [title, table(list(_HEAD), [_cells(row, latency) for row in ordered])]
        parts += [_fastest(ordered, latency, places), "\n".join(notes)]
    return "\n\n".join(part for part in parts if part)


def _written() -> str:
    return f"Written {time.strftime('%Y-%m-%d')}; load average then {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores."


def _read(path: Path) -> Row:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _timing(latency: Row) -> str:
    if not latency:
        return "Times were not taken."
    before, after = latency["load"]
    return (
        f"Times: {latency['rounds']} rounds by turns, {latency['threads']} threads, load {before:.1f} to {after:.1f}; "
        f"ratios within ±{latency['noise']:.0%} mean nothing."
    )


def _cells(row: Row, latency: Row) -> list[str]:
    where = row["status"] if row["status"] not in _SIGNS else f"{_SIGNS[row['status']]} {row['status']}"
    timed = latency.get("ratios", {}).get(row["name"])
    return [
        f"`{row['format']}`",
        row["precision"],
        where,
        _figure(row["error"], ".1e"),
        _answers(row["agreement"]) if row["error"] is not None else "-",
        _figure(row["metric"], ".3f"),
        _figure(row["drop"], "+.4f"),
        _figure(row["size_mb"], ".2f"),
        _figure(timed["ratio"] if timed else None, ".2f"),
    ]


def _fastest(rows: list[Row], latency: Row, places: dict[str, tuple[str, ...]]) -> str:
    """Tell which three are the fastest of those that hold, of each place that a build can choose for."""
    ratios = {name: one["ratio"] for name, one in latency.get("ratios", {}).items()}
    told = []
    for target in dict.fromkeys(target for targets in places.values() for target in targets):
        held = [row for row in rows if row["status"] in _HELD and row["name"] in ratios]
        there = sorted((ratios[row["name"]], row["name"]) for row in held if target in places[row["format"]])
        names = ", then ".join(f"`{name}` {ratio:.2f}" for ratio, name in there[:3])
        told.append(f"{target}: {names}" if names else "")
    return f"Fastest of those that hold. {'; '.join(filter(None, told))}." if any(told) else ""


def _answers(agreement: dict[str, float]) -> str:
    return ", ".join(form.format(agreement[name]) for name, form in _ANSWERS if name in agreement) or "-"


def _reason(row: Row) -> str:
    if row["status"] == "repaired":
        return f"held after {row['tries']} tries: {row['repaired_by']}."
    at = f"; first to diverge: {row['diverges_at']}" if row["diverges_at"] else ""
    at += "; NOT SETTLED: the time for repairs was up" if row.get("is_cut_short") else ""
    return f"{row['status']}: {row['reason']}{at}." if row["reason"] else ""


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
