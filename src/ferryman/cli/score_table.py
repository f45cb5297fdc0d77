"""Show what scoring came to."""

from typing import Any

from ferryman.api import Scored
from ferryman.batch.run import Work
from ferryman.verify.columns import Paint

_MOST_MOVED = 12


def render_plan(work: Work) -> dict[str, Any]:  # JSON
    """Say what would be done, by name."""
    total = work.source.total
    return {
        "bundle": f"{work.bundle.manifest.name} {work.bundle.manifest.digest[:12]}",
        "rows": total if total is not None else "not known before all are read",
        "chunk": f"{work.chunk} rows",
        "keys": ", ".join(key.column for key in work.layout.keys) or "none",
        "model takes": "files" if work.layout.is_files else ", ".join(work.layout.takes or ("all other columns",)),
        "columns": ", ".join(f"{name} {kind}" for name, kind in work.layout.columns.items()),
        "output": str(work.file or work.folder),
    }


def render_scored(scored: Scored, paint: Paint) -> str:
    """Give rows, refusals, pace and the verdict of drift as a few lines."""
    figures: Any = scored.figures  # JSON
    fresh = figures["rows"] - scored.resumed_rows
    pace = f", {fresh / scored.seconds:,.0f} rows/s" if scored.seconds and fresh else ""
    resumed = f" ({scored.resumed_rows:,} were there already)" if scored.resumed_rows else ""
    lines = [f"{figures['answered']:,} of {figures['rows']:,} rows answered{resumed}, {scored.seconds:.1f} s{pace}"]
    refused = {why: number for why, number in figures["refused"].items() if number}
    if refused:
        told = ", ".join(f"{number:,} {why}" for why, number in refused.items())
        lines.append(paint(f"{told}: see {scored.folder / 'refused.jsonl'}", "yellow"))
    for reason, number in scored.losses.items():
        lines.append(paint(f"records: {number} {reason}", "yellow"))
    lines.append(f"answers: {scored.file or scored.folder}")
    return "\n".join([*lines, *_drift(figures["drift"], paint)]) + "\n"


def _drift(drift: Any, paint: Paint) -> list[str]:  # JSON
    if drift["verdict"] != "drift":
        highest = f" (highest {drift['highest']:.1f} of {drift['threshold']:.1f})" if "highest" in drift else ""
        return [f"drift: {drift['verdict']}{highest}"]
    moved = drift["moved"]
    head = f"drift: {len(moved)} of {drift['signals']} signals moved (score over {drift['threshold']:.1f})"
    shown = [f"  {one['score']:7.1f}  {one['text']}" for one in moved[:_MOST_MOVED]]
    more = [f"  ... and {len(moved) - _MOST_MOVED} more: score.json"] if len(moved) > _MOST_MOVED else []
    return [paint(head, "yellow"), *shown, *more]
