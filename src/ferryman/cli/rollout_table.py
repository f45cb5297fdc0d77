"""Show rollouts to people."""

from collections.abc import Sequence
from typing import Any

from ferryman.verify.columns import Cell, Column, Paint, rows, wrap

_STYLES = {"promoted": "green", "rolled back": "red", "aborted": "red"}
_LAST = 6

Json = dict[str, Any]  # what the server says


def render_rollouts(listed: Sequence[Json], *, width: int, paint: Paint) -> str:
    """Give a line for each rollout."""
    if not listed:
        return "no rollouts; ferryman rollout start MODEL --version V begins one\n"
    columns = [
        _words("model", [one["model"] for one in listed]),
        _words("from", [one["stable"] for one in listed]),
        _words("to", [one["candidate"] for one in listed]),
        Column("phase", tuple(Cell(_phase(one), _style(one)) for one in listed), is_text=True),
        Column("share", tuple(Cell(f"{one['weight']:.1%}") for one in listed)),
        _words("last", [_last(one)[: max(width // 2, 24)] for one in listed]),
    ]
    return "\n".join(rows(columns, paint)) + "\n"


def render_rollout(shown: Json, *, width: int, paint: Paint) -> str:
    """Give one rollout: where it is, this step's figures, and what happened last."""
    head = f"{shown['model']}: {shown['stable']} -> {shown['candidate']}  "
    lines = [head + paint(_phase(shown), _style(shown), "bold") + f"  (active: {shown['active']})"]
    if shown["phase"] in ("shadow", "canary"):
        lines += ["", *_figures(shown, paint)]
    lines.append("")
    for event in shown["events"][-_LAST:]:
        lines += wrap(f"{event['time'][:19]}  {event['kind']}: {event['reason']}", width)
    return "\n".join(lines) + "\n"


def _figures(shown: Json, paint: Paint) -> list[str]:
    figures = shown["figures"]
    sides = [("active", shown["stable"]), ("candidate", shown["candidate"])]
    columns = [
        _words("this step", [f"{side} {version}" for side, version in sides]),
        Column("share", (Cell(f"{1 - shown['weight']:.1%}"), Cell(f"{shown['weight']:.1%}"))),
        *(
            Column(name.replace("_", " "), tuple(Cell(str(figures[side].get(name, "-"))) for side, _ in sides))
            for name in ("requests", "errors", "p50_ms", "p99_ms")
        ),
    ]
    lines = rows(columns, paint)
    if shadow := figures.get("shadow"):
        worst = ", ".join(f"{name} {value}" for name, value in shadow["worst"].items())
        lines.append(
            f"shadow: {shadow['asked']} requests, {shadow['errors']} failed, {shadow['compared']} compared, "
            f"{shadow['differing']} differ" + (f" (worst: {worst})" if worst else "")
        )
    return [*lines, f"{shown['step_s']:.0f} s in this step; it needs {shown['plan']['min_requests']} requests"]


def _words(heading: str, texts: Sequence[str]) -> Column:
    return Column(heading, tuple(Cell(text) for text in texts), is_text=True)


def _phase(shown: Json) -> str:
    if shown["phase"] == "canary":
        place = f"canary {shown['step'] + 1}/{len(shown['plan']['steps'])}"
    else:
        place = str(shown["phase"])
    return f"{place}, paused" if shown["is_paused"] else place


def _style(shown: Json) -> str:
    return _STYLES.get(shown["phase"], "yellow" if shown["is_paused"] else "cyan")


def _last(shown: Json) -> str:
    return str(shown["events"][-1]["reason"]) if shown["events"] else ""
