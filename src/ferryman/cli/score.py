"""`ferryman score`: answer a whole table or folder."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from ferryman import api
from ferryman.cli.options import add_json, at_least_one, count, duration, share
from ferryman.cli.output import has_color, write_json, write_text
from ferryman.cli.score_table import render_plan, render_scored
from ferryman.cli.talk import Listener, say
from ferryman.core.errors import ContractBroken
from ferryman.verify.columns import Paint

EXAMPLE = "ferryman score dist/churn customers.parquet -o scores"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the bundle, what it is asked about, and where the answers go."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder or .ferry file")
    parser.add_argument(
        "input", metavar="INPUT",
        help="a .parquet, .csv, .tsv or .jsonl table; for pictures a folder, a 'glob', or a .txt file that lists them",
    )  # fmt: skip
    where = "a folder of Parquet files, or one .parquet, .csv or .jsonl file"
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help=where)
    keys = "the input's columns that go along, commas between (default: those that the model doesn't take)"
    parser.add_argument("--keys", metavar="A,B", help=keys)
    parser.add_argument("--chunk", type=at_least_one, default=0, metavar="N", help="rows of a chunk (10000; files: 64)")
    parser.add_argument("--limit", type=at_least_one, default=0, metavar="N", help="the first N rows only")
    parser.add_argument("--processes", type=count, default=0, metavar="N", help="workers (default: cores / threads)")
    parser.add_argument("--threads", type=at_least_one, default=1, metavar="N", help="cores of one worker (1)")
    refused = "stop where more than this share of the rows is refused (0.5)"
    parser.add_argument("--max-refused", type=share, default=0.5, metavar="SHARE", help=refused)
    patience = "take a worker that is silent for so long for dead (10m)"
    parser.add_argument("--patience", type=duration, metavar="TIME", help=patience)
    parser.add_argument("--monitor", type=Path, metavar="DIR", help="keep records in DIR/records, as a server does")
    parser.add_argument("--fail-on-drift", action="store_true", help="exit code 3 where the input has drifted")
    parser.add_argument("--allow-broken", action="store_true", help="take a bundle that doesn't keep its contract")
    parser.add_argument("--again", action="store_true", help="throw away what an earlier run left, and start anew")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Score, and show what came of it; 3 where the contract doesn't hold, or drift was to fail."""
    choices: api.ScoreChoices = {
        "chunk": args.chunk, "limit": args.limit, "processes": args.processes, "threads": args.threads,
        "max_refused": args.max_refused, "monitor": args.monitor, "again": args.again,
        "allow_broken": args.allow_broken,
    }  # fmt: skip
    if args.keys is not None:
        choices["keys"] = tuple(name.strip() for name in args.keys.split(",") if name.strip())
    if args.patience is not None:
        choices["patience_s"] = args.patience.total_seconds()
    if args.dry_run:
        told = render_plan(api.plan_score(args.bundle, args.input, args.output, **choices))
        write_json(told) if args.json else write_text("".join(f"{name:<10} {text}\n" for name, text in told.items()))
        return 0
    with Listener(sys.stderr, is_quiet=args.quiet) as progress:
        scored = api.score(args.bundle, args.input, args.output, progress=progress, **choices)
    if args.json:
        write_json({**asdict(scored), "drifted": scored.has_drifted})
    else:
        write_text(render_scored(scored, Paint(has_color(sys.stdout))))
    if scored.has_drifted and args.fail_on_drift:
        say("the input is not as the bundle's baseline", label="drift", style="yellow")
        return ContractBroken.exit_code
    return 0
