"""`ferryman plugins`: what is installed."""

import argparse
import sys

from ferryman import api
from ferryman.cli.options import add_json
from ferryman.cli.output import has_color, terminal_width, write_json, write_text
from ferryman.core.plugins import Plugin
from ferryman.verify.columns import GAP, Cell, Column, Paint, fit, rows
from ferryman.verify.figures import plain

EXAMPLE = "ferryman plugins"
_LEAST_SUMMARY = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take nothing but the form of the answer."""
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """List every plug-in, and those that can't be loaded with the reason."""
    installed, broken = api.installed(), api.broken()
    if args.json:
        write_json({"plugins": [_as_json(plugin) for plugin in installed], "broken": broken})
        return 0
    paint = Paint(has_color(sys.stdout))
    lines = rows(_columns(installed, terminal_width()), paint) + [
        f"{paint('broken', 'red')} {plain(name)}: {plain(why)}" for name, why in broken.items()
    ]
    write_text("\n".join(lines) + "\n")
    return 0


def _as_json(plugin: Plugin) -> dict[str, object]:
    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "package": plugin.package,
        "summary": plugin.summary,
        "available": plugin.is_available,
        "missing": plugin.missing,
        "install": "" if plugin.is_available else plugin.install_command,
    }


def _columns(installed: list[Plugin], width: int) -> list[Column]:
    states = tuple(
        Cell("✓ available", "green") if plugin.is_available else Cell(plugin.install_command, "yellow")
        for plugin in installed
    )
    columns = [
        Column("kind", tuple(Cell(plugin.kind[:-1]) for plugin in installed), is_text=True),
        Column("name", tuple(Cell(plain(plugin.name), "bold") for plugin in installed), is_text=True),
        Column("available", states, is_text=True),
        Column("package", tuple(Cell(plain(plugin.package)) for plugin in installed), 1, is_text=True),
    ]
    left = width - sum(column.width + len(GAP) for column in columns)
    if left >= _LEAST_SUMMARY:
        told = tuple(Cell(_cut(plain(plugin.summary), left), "dim") for plugin in installed)
        columns.append(Column("what it does", told, 1, is_text=True))
    return fit(columns, width)[0]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
