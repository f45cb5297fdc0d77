"""What a deployment changes, and how it stands, for people."""

from collections.abc import Sequence

from ferryman.core.target import Change, Standing
from ferryman.verify.columns import Paint

_SIGNS = {"create": ("+", "green"), "change": ("~", "yellow"), "remove": ("-", "red"), "keep": ("=", "dim")}
_PLANNED = {"create": "to create", "change": "to change", "remove": "to remove"}
_DONE = {"create": "created", "change": "changed", "remove": "removed"}


def render_changes(changes: Sequence[Change], *, is_dry: bool, paint: Paint) -> str:
    """Write a line for each thing, the lines that differ below what is changed, and how many there are of each."""
    lines = []
    for change in changes:
        sign, style = _SIGNS[change.move]
        lines.append(paint(f"{sign} {change.what}", style))
        if change.move == "change":
            lines += [f"    {_painted(line, paint)}" for line in change.diff.splitlines()]
    moves = [change.move for change in changes]
    words = _PLANNED if is_dry else _DONE
    counts = [f"{moves.count(move)} {word}" for move, word in words.items() if move in moves]
    return "\n".join([*lines, ", ".join(counts) or "nothing to change"]) + "\n"


def _painted(line: str, paint: Paint) -> str:
    style = {"+": "green", "-": "red"}.get(line[:1], "dim" if line.startswith("@@") else "")
    return paint(line, style) if style else line


def render_standing(standing: Standing, paint: Paint) -> str:
    """Write how many copies answer, of what, and what keeps the others from it."""
    if not standing.is_there:
        return f"{standing.name}: not there\n"
    word, style = ("ready", "green") if standing.is_ready else ("not ready", "red")
    image = f"  {standing.image}" if standing.image else ""
    head = f"{standing.name}: {paint(word, style)}, {standing.ready} of {standing.wanted}{image}"
    return "\n".join([head, *(f"  {note}" for note in standing.notes)]) + "\n"
