"""`ferryman feedback`: what turned out to be true of what was answered."""

import argparse
import sys
from pathlib import Path

from ferryman import api
from ferryman.cli.access_options import add_access, read_access
from ferryman.cli.feedback_table import render_feedback
from ferryman.cli.options import add_json
from ferryman.cli.output import has_color, write_json, write_text
from ferryman.verify.columns import Paint

EXAMPLE = "ferryman feedback labels.csv --monitor http://127.0.0.1:8081"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the file, and who gets it."""
    kinds = "CSV with a header, .jsonl or .parquet: id (of the request), truth (or right, or objects), and item, at"
    parser.add_argument("file", type=Path, metavar="FILE", help=kinds)
    told = "a server's admin address, or the folder that `ferryman serve --monitor` was given"
    parser.add_argument("--monitor", required=True, metavar="DIR|URL", help=told)
    add_access(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Hand it over, and show how it stands."""
    told = api.feedback(args.file, args.monitor, access=read_access(args))
    if args.json:
        write_json(told)
    else:
        write_text(render_feedback(told, paint=Paint(has_color(sys.stdout))))
    return 0
