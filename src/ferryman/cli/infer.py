"""`ferryman infer`: ask a bundle or a server."""

import argparse
import sys
from pathlib import Path

from ferryman import api
from ferryman.cli.answers import tabulate
from ferryman.cli.inputs import read_items
from ferryman.cli.options import add_json, share
from ferryman.cli.output import has_color, terminal_width, write_json, write_text
from ferryman.cli.talk import say
from ferryman.core.errors import UserError
from ferryman.core.task import Answer, Item
from ferryman.verify.columns import Paint

_PICTURES = (".png", ".jpg", ".jpeg")
EXAMPLE = "ferryman infer dist/street photo.jpg --draw boxes.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take who is asked, and about what."""
    parser.add_argument("target", metavar="TARGET", help="a bundle's folder or .ferry file, or a server's http URL")
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT",
        help="pictures; a .csv or .tsv (also .gz; each row is asked), .npz, .npy, .json or .jsonl file; "
        "- for JSON on stdin",
    )  # fmt: skip
    parser.add_argument("--model", metavar="M", help="which model of a server that has several")
    parser.add_argument("--draw", type=Path, metavar="OUT", help="draw the answer: a file, or a folder for several")
    parser.add_argument(
        "--min-score", type=share, default=0.25, metavar="S", help="leave boxes under this out of the table (0.25)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Answer each input: a table, or one JSON document a line."""
    items = read_items(args.inputs)
    pictures = _destinations(items, args.draw) if args.draw else []
    answers = api.infer(args.target, [item for _, item in items], model=args.model)
    named = [(name, answer) for (name, _), answer in zip(items, answers, strict=True)]
    for (picture, destination), answer in zip(pictures, answers, strict=False):
        api.draw(args.target, picture, answer, destination)
        if not args.quiet:
            say(f"drew {destination}")
    _write(named, args)
    return 0


def _write(named: list[tuple[str, Answer]], args: argparse.Namespace) -> None:
    if args.json:
        for name, answer in named:
            write_json({"input": name, "answer": answer})
        return
    paint = Paint(has_color(sys.stdout))
    write_text(tabulate(named, min_score=args.min_score, width=terminal_width(), paint=paint))


def _destinations(items: list[tuple[str, Item]], out: Path) -> list[tuple[Path, Path]]:
    """Pair each picture with the file to draw; several pictures go into a folder under their own names."""
    pictures = [item for _, item in items if isinstance(item, Path)]
    if len(pictures) != len(items):
        raise UserError("--draw needs pictures", hint="leave --draw out for tables and arrays")
    if len(pictures) == 1 and out.suffix.lower() in _PICTURES:
        return [(pictures[0], out)]
    if out.suffix or out.is_file():
        raise UserError(
            f"--draw can't make {out} of {len(pictures)} pictures", hint="name a folder, or one .png or .jpg"
        )
    out.mkdir(parents=True, exist_ok=True)
    return [(path, out / f"{index:03d}-{path.stem}.png") for index, path in enumerate(pictures)]
