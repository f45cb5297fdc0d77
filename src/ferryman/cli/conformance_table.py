"""Show what `ferryman conformance` found as a table and a sentence."""

from collections.abc import Sequence

from ferryman.cli.output import terminal_width
from ferryman.cli.talk import say
from ferryman.conformance.check import Result
from ferryman.verify.columns import Cell, Column, Paint, rows, wrap
from ferryman.verify.figures import plain

_SIGNS = {"passed": "✓", "failed": "✗", "not run": "·"}
_STYLES = {"passed": "green", "failed": "red", "not run": "dim"}


def conformance_table(results: Sequence[Result], paint: Paint) -> str:
    """Give a line for each check, and below it why it failed or was not run."""
    columns = [
        Column("", tuple(Cell(_SIGNS[one.verdict], _STYLES[one.verdict]) for one in results), is_text=True),
        Column("check", tuple(Cell(one.check.id) for one in results), is_text=True),
        Column("model", tuple(Cell(plain(one.model)) for one in results), is_text=True),
        Column("what", tuple(Cell(one.check.title) for one in results), is_text=True),
    ]
    heading, *lines = rows(columns, paint)
    told = [heading]
    for result, line in zip(results, lines, strict=True):
        told.append(line)
        if result.verdict == "failed":
            told += wrap(f"{plain(result.message)} ({result.check.section}: {result.check.says})", terminal_width() - 2,
                         indent="     ")  # fmt: skip
        elif result.verdict == "not run":
            told += [paint(text, "dim") for text in wrap(f"not run: {plain(result.message)}", terminal_width() - 2,
                                                         indent="     ")]  # fmt: skip
    return "\n".join(told) + "\n"


def conclude(results: Sequence[Result], broken: Sequence[Result]) -> None:
    """Say how it ended."""
    counts = {verdict: sum(one.verdict == verdict for one in results) for verdict in _SIGNS}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    say(f"{told}: {'the server breaks the protocol' if broken else 'the server keeps the protocol as far as asked'}")
