"""`ferryman push`: put a bundle into a registry, as a ModelPack artifact."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from ferryman import api
from ferryman.cli.options import add_json
from ferryman.cli.output import write_json, write_text
from ferryman.cli.signing_options import add_place, place_of
from ferryman.cli.talk import Listener, say
from ferryman.verify.figures import size

EXAMPLE = "ferryman push dist/street registry.example.com/models/street:3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the bundle, its name in the registry, and how to reach that."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle: folder or .ferry file")
    parser.add_argument("reference", metavar="REF", help="where it goes: host/name:tag (tag: latest)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be sent, and send nothing")
    add_place(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Push it; on stdout is its name by digest alone, which scripts can keep."""
    with Listener(sys.stderr, is_quiet=args.quiet) as progress:
        moved = api.push(args.bundle, args.reference, place=place_of(args), dry_run=args.dry_run, progress=progress)
    if args.json:
        write_json({**asdict(moved), "dry_run": args.dry_run})
        return 0
    if not args.quiet:
        verb = "would send" if args.dry_run else "sent"
        say(f"{moved.name}: {verb} {size(moved.moved_bytes)}; {size(moved.kept_bytes)} were there already")
    write_text(f"{moved.reference}\n")
    return 0
