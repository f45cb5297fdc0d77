"""`ferryman infer`: ask a bundle or a server."""

import argparse
import sys
from functools import cache
from pathlib import Path

from ferryman import api
from ferryman.cli.access_options import add_access, read_access
from ferryman.cli.answers import tabulate
from ferryman.cli.broken import open_target
from ferryman.cli.drawing import pair_with_destinations
from ferryman.cli.inputs import read_items
from ferryman.cli.options import add_json, share
from ferryman.cli.output import has_color, terminal_width, write_json, write_text
from ferryman.cli.talk import say
from ferryman.cli.texts import text_column
from ferryman.core.task import Answer
from ferryman.verify.columns import Paint

EXAMPLE = "ferryman infer dist/street photo.jpg --draw boxes.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take who is asked, and about what."""
    parser.add_argument("target", metavar="TARGET", help="a bundle's folder or .ferry file, or a server's http URL")
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT",
        help="pictures; a .csv or .tsv (also .gz; each row is asked), .npz, .npy, .json or .jsonl file; "
        "a text or a .txt file, for a model of texts; - for JSON on stdin",
    )  # fmt: skip
    parser.add_argument("--model", metavar="M", help="which model of a server that has several")
    parser.add_argument("--draw", type=Path, metavar="OUT", help="draw the answer: a file, or a folder for several")
    parser.add_argument(
        "--min-score", type=share, default=0.25, metavar="S", help="leave boxes under this out of the table (0.25)"
    )
    add_json(parser)
    add_access(parser)


def run(args: argparse.Namespace) -> int:
    """Answer each input: a table, or one JSON document a line."""
    opened = cache(lambda: open_target(args.target))
    items = read_items(args.inputs, lambda: text_column(opened(), args.model, read_access(args)))
    pictures = pair_with_destinations(items, args.draw) if args.draw else []
    target = opened()
    names = [name for name, _ in items]
    answers = api.infer_each(
        target, [item for _, item in items], names=names, model=args.model, access=read_access(args)
    )
    named: list[tuple[str, Answer]] = []
    try:
        for place, answer in enumerate(answers):
            named.append((names[place], answer))
            if pictures:
                _draw(target, pictures[place], answer, is_quiet=args.quiet)
    finally:
        if named:  # an input that is refused takes no answer away from those before it
            _write(named, args)
    return 0


def _draw(target: str | api.Bundle, pair: tuple[Path, Path], answer: Answer, *, is_quiet: bool) -> None:
    picture, destination = pair
    api.draw(target, picture, answer, destination)
    if not is_quiet:
        say(f"drew {destination}")


def _write(named: list[tuple[str, Answer]], args: argparse.Namespace) -> None:
    if args.json:
        for name, answer in named:
            write_json({"input": name, "answer": answer})
        return
    paint = Paint(has_color(sys.stdout))
    write_text(tabulate(named, min_score=args.min_score, width=terminal_width(), paint=paint))
