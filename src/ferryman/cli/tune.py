"""`ferryman tune`: find out how to serve a bundle on this machine, and write it into the bundle."""

import argparse
import sys
from pathlib import Path

from ferryman.bundle.read import load_bundle
from ferryman.cli.options import add_json, count, duration, positive
from ferryman.cli.output import has_color, write_json, write_text
from ferryman.cli.talk import Listener, say
from ferryman.cli.tune_table import tuning_table
from ferryman.core.runtime import available_cores
from ferryman.server.tuning.candidates import list_candidates
from ferryman.server.tuning.keep import keep_tuning
from ferryman.server.tuning.search import TuneSettings, plan_rounds, tune
from ferryman.server.tuning.serving import describe
from ferryman.verify.columns import Paint

EXAMPLE = "ferryman tune dist/street --budget 120s --p99-ms 40"
_FEW = 1000  # requests, below which a p99 rests on fewer than ten


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the bundle, the budget and the limit."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder or .ferry file")
    parser.add_argument("--budget", type=duration, default="120s", metavar="TIME", help="how long to search (120s)")
    parser.add_argument(
        "--p99-ms", type=positive, metavar="MS",
        help="the 99th percentile of latency to keep (default: the contract's, else 4 x the latency of one request "
        "alone, 2 x its p99, or 5 ms, whatever is most)",
    )  # fmt: skip
    parser.add_argument("--cores", type=count, default=0, metavar="N", help="cores of the server; 0: all there are")
    parser.add_argument("--dry-run", action="store_true", help="say what would be tried, and for how long")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Search, write the choice into the bundle and show it."""
    settings = TuneSettings(budget_s=args.budget.total_seconds(), p99_ms=args.p99_ms, cores=args.cores)
    if args.dry_run:
        return _show_plan(args, settings)
    with Listener(sys.stderr, is_quiet=args.quiet) as progress:
        tuning = tune(args.bundle, settings, progress=progress)
    keep_tuning(args.bundle, tuning)
    if args.json:
        write_json(tuning)
    else:
        write_text(tuning_table(tuning, Paint(has_color(sys.stdout))))
        write_text(
            f"{describe(tuning.choice)}: {tuning.rate_rps:.1f} requests/s with p99 <= {tuning.limit_p99_ms:g} ms "
            f"({tuning.limit_from})\n"
        )
    fewest = min(point.sent for point in tuning.curve)
    if fewest < _FEW and not args.quiet:
        say(f"some rates were tried with {fewest} requests only: see the interval of p99, or give a larger --budget")
    return 0


def _show_plan(args: argparse.Namespace, settings: TuneSettings) -> int:
    candidates = list_candidates(load_bundle(args.bundle), settings.cores or available_cores())
    rounds = plan_rounds(len(candidates), settings.budget_s)
    if args.json:
        write_json(
            {
                "candidates": candidates,
                "rounds": [{"candidates": number, "seconds_each": seconds} for number, seconds in rounds],
            }
        )
        return 0
    lines = [describe(choice) for choice in candidates]
    lines += [f"round {place}: {number} of them, {s:.1f} s each" for place, (number, s) in enumerate(rounds, start=1)]
    write_text("\n".join(lines) + "\n")
    return 0
