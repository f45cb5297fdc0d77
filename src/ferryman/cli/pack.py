"""`ferryman pack`: make one file of a bundle."""

import argparse
from pathlib import Path

from ferryman import api
from ferryman.cli.broken import warn_of_broken
from ferryman.cli.options import add_json
from ferryman.cli.output import write_json, write_text

EXAMPLE = "ferryman pack dist/street street.ferry"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the bundle and the file."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder")
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="the file to write (default: BUNDLE.ferry beside the folder)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Check every digest, then write the file; equal bundles give equal bytes."""
    file = api.pack(args.bundle, args.file)
    warn_of_broken(api.load(args.bundle))
    if args.json:
        write_json({"file": file, "bytes": file.stat().st_size})
    else:
        write_text(f"{file}\n")
    return 0
