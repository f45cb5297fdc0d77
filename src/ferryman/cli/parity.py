"""`ferryman parity`: set all formats of a bundle side by side."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from ferryman import api
from ferryman.cli.options import add_json
from ferryman.cli.output import check_writable, has_color, terminal_width, write_file, write_json, write_text
from ferryman.cli.talk import Listener
from ferryman.core.errors import ContractBroken
from ferryman.verify.report import render_table
from ferryman.verify.report_html import render_html

EXAMPLE = "ferryman parity dist/street --project . --html parity.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the bundle, and the data to compare on."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder or .ferry file")
    data = "compare on the labelled data of this ferryman.toml (default: on the bundle's golden samples)"
    parser.add_argument("--project", type=Path, metavar="PROJECT", help=data)
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as one HTML file, too")
    code = "run formats whose files are programs, too (JavaScript, machine code): for a bundle of your own"
    parser.add_argument("--trust", action="store_true", help=code)
    parser.add_argument("--strict", action="store_true", help="a format that nothing here can run is a failure, too")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Compare and show the table; 3 where a format gives other answers than it promised."""
    check_writable(args.html)
    with Listener(sys.stderr, is_quiet=args.quiet) as progress:
        bundle, compared = api.parity(args.bundle, project=args.project, trust=args.trust, progress=progress)
    holds = compared.holds and not (args.strict and compared.unverified)
    if args.json:
        write_json({"holds": holds, "unverified": compared.unverified, "formats": compared.proof.candidates})
    else:
        write_text(render_table(compared.proof, width=terminal_width(), color=has_color(sys.stdout)))
    if args.html:
        write_file(args.html, render_html(replace(bundle, proof=compared.proof)))
    return 0 if holds else ContractBroken.exit_code
