"""`ferryman tune`: find out how to serve a bundle on this machine, and write it into the bundle."""

import argparse
import sys
from datetime import timedelta
from pathlib import Path

from ferryman.bundle.read import load_bundle
from ferryman.cli.options import add_json, at_least_one, duration, positive
from ferryman.cli.output import has_color, write_json, write_text
from ferryman.cli.talk import Listener, say
from ferryman.cli.tune_table import plan_text, tuning_table
from ferryman.core.runtime import available_cores
from ferryman.server.tuning.candidates import list_candidates
from ferryman.server.tuning.keep import keep_tuning
from ferryman.server.tuning.search import LEAST_BUDGET_S, TuneSettings, plan_rounds, tune
from ferryman.server.tuning.serving import describe
from ferryman.verify.columns import Paint

EXAMPLE = "ferryman tune dist/street --budget 120s --p99-ms 40"
_FEW = 1000  # requests, below which a p99 rests on fewer than ten


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the bundle, the budget and the limit."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder or .ferry file")
    parser.add_argument(
        "--budget", type=_budget, default="120s", metavar="TIME", help="how long to search in all: 90s, 5m, 1h (120s)"
    )
    parser.add_argument(
        "--p99-ms", type=positive, metavar="MS",
        help="the 99th percentile of latency to keep (default: the contract's p99_ms, else 4 x the median of one "
        "request alone, at least 5)",
    )  # fmt: skip
    parser.add_argument("--cores", type=at_least_one, default=0, metavar="N", help="cores that it may use (all)")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be tried, and for how long")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Search, write the choice into the bundle and show it."""
    settings = TuneSettings(budget_s=args.budget.total_seconds(), p99_ms=args.p99_ms, cores=args.cores)
    if args.dry_run:
        return _show_plan(args, settings)
    with Listener(sys.stderr, is_quiet=args.quiet) as progress:  # stopped here, nothing was written
        tuning = tune(args.bundle, settings, progress=progress)
    _, warning = keep_tuning(args.bundle, tuning)
    if args.json:
        write_json(tuning)
    else:
        write_text(tuning_table(tuning, Paint(has_color(sys.stdout))))
        write_text(
            f"{describe(tuning.choice)}: {tuning.rate_rps:.1f} requests/s with p99 <= {tuning.limit_p99_ms:g} ms "
            f"({tuning.limit_from})\n"
        )
    doubts = [f"{doubt}: this machine is disturbed, the choice means little" for doubt in tuning.doubts]
    for doubt in filter(None, (*doubts, warning)):
        say(doubt, label="warning", style="yellow")
    fewest = min(point.sent for point in tuning.curve)
    if fewest < _FEW and not args.quiet:
        say(f"some rates were tried with {fewest} requests only: see the interval of p99, or give a larger --budget")
    return 0


def _budget(text: str) -> timedelta:
    budget = duration(text)
    if budget.total_seconds() < LEAST_BUDGET_S:
        raise argparse.ArgumentTypeError(f"'{text}' is too short: {LEAST_BUDGET_S:g}s is the least")
    return budget


def _show_plan(args: argparse.Namespace, settings: TuneSettings) -> int:
    candidates = list_candidates(load_bundle(args.bundle), settings.cores or available_cores())
    rounds = plan_rounds(len(candidates), settings.budget_s)
    if args.json:
        planned = [{"candidates": number, "seconds_each": seconds} for number, seconds in rounds]
        write_json({"candidates": candidates, "rounds": planned})
    else:
        write_text(plan_text(candidates, rounds))
    return 0
