"""`ferryman bom`: say what is in a bundle or an image."""

import argparse
import sys
from pathlib import Path

from ferryman import api
from ferryman.cli.options import add_json
from ferryman.cli.output import write_file, write_json, write_text
from ferryman.cli.signing_options import add_builder, add_place, place_of
from ferryman.cli.talk import Listener, say
from ferryman.supply.signing import encode, refuse_foreign

EXAMPLE = "ferryman bom dist/street street.cdx.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what is described, and where that goes."""
    parser.add_argument("target", metavar="TARGET", help="a bundle (folder or .ferry), or an image: HOST/NAME:TAG")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="the file to write (default: print it)")
    parser.add_argument(
        "--provenance", action="store_true", help="how it came to be (SLSA v1) instead of what is in it (CycloneDX 1.6)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what can't be told, and write nothing")
    add_builder(parser)
    add_place(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write or print the document: the same target, the same bytes."""
    if args.file:
        refuse_foreign(args.file)
    with Listener(sys.stderr, is_quiet=args.quiet) as progress:
        found = api.bom(
            args.target, provenance=args.provenance, builder=args.builder, place=place_of(args), progress=progress
        )
    for warning in found.warnings if not args.quiet else ():
        say(warning, label="warning", style="yellow")
    text = encode(found.document).decode()
    if args.file and not args.dry_run:
        write_file(args.file, text)
    if args.json:
        document = None if args.file else found.document
        write_json({"file": args.file, "warnings": found.warnings, "document": document, "dry_run": args.dry_run})
    elif args.file:
        write_text(f"{'would write ' if args.dry_run else ''}{args.file}\n")
    elif not args.dry_run:
        write_text(text)
    return 0
