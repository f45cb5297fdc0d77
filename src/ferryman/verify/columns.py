"""Lay out columns for a terminal: plain text first, colour last, so that widths stay right."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from ferryman.verify.figures import NOT_MEASURED

_CODES = {"green": "32", "red": "31", "yellow": "33", "cyan": "36", "dim": "2", "bold": "1"}


@dataclass(frozen=True, slots=True)
class Paint:
    """Colour text for a terminal, or leave it as it is."""

    color: bool

    def __call__(self, text: str, *styles: str) -> str:
        """Wrap `text` in the escape codes of `styles`; spaces around it stay outside."""
        codes = ";".join(_CODES[style] for style in styles if style)
        inner = text.strip()
        if not self.color or not codes or not inner:
            return text
        return text.replace(inner, f"\x1b[{codes}m{inner}\x1b[0m", 1)


@dataclass(frozen=True, slots=True)
class Cell:
    """Hold one cell's text and its style."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """Hold a column: its heading, its cells, and how early it gives way on a narrow terminal (0: never)."""

    heading: str
    cells: tuple[Cell, ...]
    gives_way: int = 0
    is_text: bool = False

    @property
    def width(self) -> int:
        """Give the widest text's length."""
        return max(len(self.heading), *(len(cell.text) for cell in self.cells), 0)

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was measured in this column."""
        return all(cell.text.lstrip("!") in ("", NOT_MEASURED) for cell in self.cells)

    def align(self, text: str) -> str:
        """Pad text to the column's width: words to the left, figures to the right."""
        return text.ljust(self.width) if self.is_text else text.rjust(self.width)


GAP = "  "


def fit(columns: Sequence[Column], width: int) -> tuple[list[Column], list[Column]]:
    """Give the columns that fit into `width` and those that had to give way; empty ones are left out of both."""
    kept = [column for column in columns if column.gives_way == 0 or not column.is_empty]
    dropped: list[Column] = []
    while sum(column.width for column in kept) + len(GAP) * (len(kept) - 1) > width:
        last = max(kept, key=lambda column: column.gives_way)
        if last.gives_way == 0:
            break
        kept.remove(last)
        dropped.insert(0, last)
    return kept, dropped


def rows(columns: Sequence[Column], paint: Paint) -> list[str]:
    """Write the heading and one line a row."""
    lines = [paint(GAP.join(column.align(column.heading) for column in columns).rstrip(), "dim")]
    count = len(columns[0].cells) if columns else 0
    for index in range(count):
        cells = [(column.align(column.cells[index].text), column.cells[index].style) for column in columns]
        lines.append(GAP.join(paint(text, *style.split()) for text, style in cells).rstrip())
    return lines


def wrap(text: str, width: int, *, indent: str = "") -> list[str]:
    """Break text into lines of at most `width`; following lines are indented by two more."""
    return textwrap.wrap(
        text, max(width, 24), initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False
    ) or [indent.rstrip()]
