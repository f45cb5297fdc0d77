"""What differs between what is there and what should be, for people: a move for each thing, and its lines."""

import difflib
from collections.abc import Mapping

from ferryman.core.target import Change, Move


def compare_text(what: str, before: str | None, after: str | None) -> Change:
    """Set one thing's texts side by side; None where it isn't there, or shouldn't be."""
    if before == after:
        return Change("keep", what)
    move: Move = "create" if before is None else "remove" if after is None else "change"
    lines = difflib.unified_diff(
        (before or "").splitlines(), (after or "").splitlines(), "there", "wanted", lineterm="", n=2
    )
    return Change(move, what, "\n".join(list(lines)[2:]))


def compare_files(before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    """Compare two sets of files by name: what is wanted first, in its order, then what has to go."""
    names = [*after, *(name for name in before if name not in after)]
    return [compare_text(name, before.get(name), after.get(name)) for name in names]
