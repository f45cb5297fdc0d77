"""`ferryman build`: optimize, verify, repair, bundle."""

import argparse
import sys
from pathlib import Path

from ferryman import api
from ferryman.cli.options import add_json, add_project, seconds_or_duration
from ferryman.cli.output import check_writable, has_color, terminal_width, write_file, write_json, write_text
from ferryman.cli.talk import Listener, say
from ferryman.core.errors import ContractBroken
from ferryman.verify.report import render_table
from ferryman.verify.report_html import render_html

EXAMPLE = "ferryman build street --output dist/street --html report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the project and where the bundle goes."""
    add_project(parser)
    parser.add_argument("--output", type=Path, metavar="DIR", help="the bundle's folder (default: dist/NAME)")
    parser.add_argument("--fresh", action="store_true", help="use nothing that an earlier build left in the cache")
    budget = (
        "time to try candidates in (20m; a plain number: seconds), the cheapest first: "
        "what was begun is judged, then what holds is measured; "
        "default: build.time_budget_s, or no end"
    )
    parser.add_argument("--time-budget", type=seconds_or_duration, metavar="TIME", help=budget)
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as one HTML file, too")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Build and show the final table; 3 where no candidate keeps the contract."""
    check_writable(args.html)
    with Listener(sys.stderr, is_quiet=args.quiet) as progress:
        budget_s = args.time_budget.total_seconds() if args.time_budget is not None else None
        built = api.build(args.project, output=args.output, fresh=args.fresh, time_budget_s=budget_s, progress=progress)
    if args.html:
        write_file(args.html, render_html(built.bundle))
    if args.json:
        write_json(_as_json(built))
    else:
        write_text(render_table(built.proof, width=terminal_width(), color=has_color(sys.stdout)))
        write_text(f"{built.bundle.path}\n")
    if not args.quiet:
        say(f"{built.seconds:.0f} s: {built.ran} steps ran, {built.cached} came from the cache")
    return 0 if built.holds else ContractBroken.exit_code


def _as_json(built: api.Built) -> dict[str, object]:
    return {
        "bundle": built.bundle.path,
        "digest": built.bundle.manifest.digest,
        "holds": built.holds,
        "winner": built.proof.winner,
        "targets": {name: choice.winner for name, choice in built.proof.targets.items()},
        "seconds": built.seconds,
        "cached": built.cached,
        "ran": built.ran,
        "proof": built.proof,
    }
