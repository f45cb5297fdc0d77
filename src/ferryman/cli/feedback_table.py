"""Show people what became of feedback, and the metrics that it gives."""

from collections.abc import Mapping
from typing import Any

from ferryman.verify.columns import Cell, Column, Paint, rows
from ferryman.verify.figures import plain

Json = Mapping[str, Any]  # what the server says


def render_feedback(told: Json, *, paint: Paint) -> str:
    """Give counts in one line, and a line for each version that has labels."""
    now = f"taken {told['taken']}, of which {told['replaced']} replaced earlier ones"
    known = {name: count for name, count in told["feedback"].items() if name not in ("taken", "replaced")}
    lines = [now, "in all: " + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in known.items())]
    labelled = [each for each in told["versions"] if each["rolling"] is not None]
    if labelled:
        lines += ["", *rows(_columns(labelled), paint)]
    lines += _strange(told["versions"])
    return "\n".join(lines) + "\n"


def _columns(versions: list[Json]) -> list[Column]:
    latest = [each["rolling"]["windows"][-1] for each in versions]
    drops = [each["rolling"]["drop"] for each in versions]
    return [
        Column("model", tuple(Cell(each["model"]) for each in versions), is_text=True),
        Column("version", tuple(Cell(each["version"]) for each in versions), is_text=True),
        Column("metric", tuple(Cell(each["rolling"]["metric"]) for each in versions), is_text=True),
        Column("labelled", tuple(Cell(str(one["count"])) for one in latest)),
        Column("value", tuple(Cell(f"{one['value']:.3f}") for one in latest)),
        Column("95 % interval", tuple(Cell(f"{one['low']:.3f} to {one['high']:.3f}") for one in latest)),
        Column("proof", tuple(Cell(f"{one['promised']:.3f}" if one else "") for one in drops)),
        Column("least drop", tuple(Cell(f"{one['least']:+.3f}" if one else "") for one in drops)),
    ]


def _strange(versions: list[Json]) -> list[str]:
    return [
        f"{each['model']} {each['version']} never answered: "
        + ", ".join(f"'{plain(truth)}' ({count} times true)" for truth, count in each["labels_never_answered"].items())
        for each in versions
        if each["labels_never_answered"]
    ]
