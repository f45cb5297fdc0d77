"""`ferryman report`: what became of requests in a time, on one page to send on."""

import argparse
from datetime import timedelta
from pathlib import Path

from ferryman import api
from ferryman.cli.options import add_json, duration
from ferryman.cli.output import check_writable, write_file, write_json
from ferryman.cli.talk import say
from ferryman.monitor.report.words import headline

EXAMPLE = "ferryman report /var/lib/ferryman --since 7d -o report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the folder, the range, and where the page goes."""
    told = "the folder that `ferryman serve --monitor` was given, or its records"
    parser.add_argument("folder", type=Path, metavar="DIR", help=told)
    parser.add_argument(
        "--since", type=duration, default=timedelta(days=7), metavar="TIME", help="the last 90s, 15m, 1h, 7d (7d)"
    )
    parser.add_argument("--model", metavar="NAME", help="only of this model")
    parser.add_argument("--version", metavar="V", help="only of this version")
    parser.add_argument(
        "--bundle", type=Path, action="append", default=[], metavar="BUNDLE",
        help="takes baselines from here, where the folder has none; may come several times",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), metavar="FILE", help="the page (report.html)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write the page, or with --json the same as JSON on stdout."""
    if not args.json:
        check_writable(args.output)
    made = api.report(args.folder, args.since, model=args.model, version=args.version, bundles=args.bundle)
    if args.json:
        write_json(made.to_json())
        return 0
    write_file(args.output, api.report_html(made))
    if not args.quiet:
        say(headline(made)[1])
        say(
            f"wrote {args.output}: {sum(one.records for one in made.versions)} records of {len(made.versions)} versions"
        )
    return 0
