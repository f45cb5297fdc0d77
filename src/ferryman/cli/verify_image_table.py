"""Show what was found of an image as a table and a sentence."""

from ferryman.cli.output import terminal_width
from ferryman.container.report_html import verdict
from ferryman.container.suite import Examined
from ferryman.verify.columns import Cell, Column, Paint, rows, wrap
from ferryman.verify.figures import plain

_SIGNS = {"passed": ("✓", "green"), "failed": ("✗", "red"), "told": ("!", "yellow"), "not checked": ("·", "dim")}


def image_table(examined: Examined, paint: Paint) -> str:
    """Give a line for each check, and below it what was seen and the way out."""
    limits, outcomes = examined.limits, examined.outcomes
    columns = [
        Column("", tuple(Cell(*_SIGNS[one.verdict]) for one in outcomes), is_text=True),
        Column("check", tuple(Cell(one.id) for one in outcomes), is_text=True),
        Column("s", tuple(Cell(f"{one.seconds:.1f}") for one in outcomes)),
        Column("what", tuple(Cell(one.title) for one in outcomes), is_text=True),
    ]
    heading, *lines = rows(columns, paint)
    told = [
        paint(plain(examined.image), "bold"),
        f"  {limits.memory_mb} MB ({limits.memory_from}), {limits.cpus:g} CPUs ({limits.cpus_from}), {examined.engine}",
        heading,
    ]
    for one, line in zip(outcomes, lines, strict=True):
        seen = f"not checked: {one.message}" if one.verdict == "not checked" else one.message
        told += [line, *(paint(text, "dim") for text in wrap(plain(seen), terminal_width() - 2, indent="     "))]
        if one.hint and one.verdict != "passed":
            told += [paint(text, "dim") for text in wrap(f"way out: {plain(one.hint)}", terminal_width() - 2,
                                                         indent="     ")]  # fmt: skip
    sign = "✓" if examined.holds else "✗"
    return "\n".join([*told, paint(f"{sign} {verdict(examined)}", "bold", "green" if examined.holds else "red")]) + "\n"
