"""Show toolchains as a table."""

from collections.abc import Sequence

from ferryman import api
from ferryman.verify.columns import Cell, Column, Paint, fit, rows

_PINS_CHARS = 60


def tabulate(found: Sequence[api.Made], paint: Paint, width: int) -> list[str]:
    """Give a line for each toolchain: whether it is there, what it costs, what it holds."""
    states = tuple(_state(made) for made in found)
    costs = tuple(f"{made.mb:.0f}" if made.is_installed else f"~{made.expected_mb}" for made in found)
    minutes = tuple(f"{made.seconds / 60:.1f}" if made.is_installed else "" for made in found)
    columns = [
        Column("toolchain", tuple(Cell(made.name, "bold") for made in found), is_text=True),
        Column("state", states, is_text=True),
        Column("MB", tuple(map(Cell, costs))),
        Column("minutes", tuple(map(Cell, minutes))),
        Column("stands on", tuple(Cell(made.base) for made in found), 1, is_text=True),
        Column("pinned", tuple(Cell(", ".join(made.pins)[:_PINS_CHARS]) for made in found), 2, is_text=True),
    ]
    return rows(fit(columns, width)[0], paint)


def _state(made: api.Made) -> Cell:
    terms = f", {made.license}" if made.license else ""
    return Cell(f"✓ installed{terms}", "green") if made.is_installed else Cell(f"not installed{terms}", "dim")
