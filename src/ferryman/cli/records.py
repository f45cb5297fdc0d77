"""`ferryman records`: what was asked of served models, and what became of it."""

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

from ferryman import api
from ferryman.cli.options import add_json, at_least_one, duration
from ferryman.cli.output import has_color, terminal_width, write_json, write_text
from ferryman.cli.records_table import render_checked, render_rows
from ferryman.cli.talk import say
from ferryman.core.errors import FerrymanError, UserError
from ferryman.monitor.store.query import Rows, Scope
from ferryman.verify.columns import Paint

EXAMPLE = "ferryman records /var/lib/ferryman/records --model street --since 1h"
_CHECK = "check"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the folder, which records are meant, and what is asked of them."""
    words = "check (optional: read every file, say what is whole and what was lost), and the folder of records"
    parser.add_argument("words", nargs="+", metavar="[check] DIR", help=words)
    parser.add_argument("--model", metavar="NAME", help="only of this model")
    parser.add_argument("--version", metavar="V", help="only of this version")
    parser.add_argument("--since", type=duration, metavar="TIME", help="only of the last 90s, 15m, 1h, 7d")
    parser.add_argument("--last", type=at_least_one, default=20, metavar="N", help="the last N requests (20)")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--count", nargs="+", metavar="BY", help="count by: model version outcome transport day hour")
    shape.add_argument("--sql", metavar="SELECT", help="one SELECT over the table `records`")
    shape.add_argument("--export", type=Path, metavar="FILE", help="write them all to a .parquet, .csv or .json file")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Ask the records; a server may write them meanwhile."""
    words = args.words
    if len(words) > 1 + (words[0] == _CHECK):
        raise UserError(f"one folder of records, not {len(words)}", hint="ferryman records DIR")
    folder = Path(words[-1])
    if words[0] == _CHECK and len(words) == 2:
        return _check(folder, args)
    since_s = time.time() - args.since.total_seconds() if args.since else None
    scope = Scope(model=args.model, version=args.version, since_s=since_s)
    if args.export:
        rows = api.export_records(folder, args.export, scope=scope)
        if args.json:
            write_json({"file": args.export, "rows": rows})
        elif not args.quiet:
            say(f"wrote {args.export}: {rows} rows")
        return 0
    if args.count:
        _show(api.count_records(folder, args.count, scope=scope), args)
    else:
        _show(api.records(folder, args.sql or "", scope=scope, limit=args.last), args)
    return 0


def _check(folder: Path, args: argparse.Namespace) -> int:
    checked = api.check_records(folder)
    if args.json:
        write_json({**asdict(checked), "is_whole": checked.is_whole})
    else:
        write_text(render_checked(checked, paint=Paint(has_color(sys.stdout))))
    return 0 if checked.is_whole else FerrymanError.exit_code


def _show(rows: Rows, args: argparse.Namespace) -> None:
    for skipped in rows.skipped if not args.quiet else ():
        say(f"left out, as it is damaged: {skipped}", label="warning", style="yellow")
    if args.json:
        write_json({"rows": rows.as_dicts(), "skipped": rows.skipped})
    else:
        write_text(render_rows(rows, width=terminal_width(), paint=Paint(has_color(sys.stdout))))
