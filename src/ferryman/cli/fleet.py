"""`ferryman fleet`: keep many boxes at the right version."""

import argparse
import logging
import sys
from dataclasses import asdict
from typing import Any

from ferryman.cli.fleet_options import MOVES, add_fleet_options
from ferryman.cli.fleet_table import render_done
from ferryman.cli.output import has_color, write_json, write_text
from ferryman.cli.talk import Listener, say
from ferryman.core.errors import FerrymanError, UserError
from ferryman.fleet.doors import Wish, act_on_box, collecting, operate, run_agent, token_for
from ferryman.fleet.operate import Done
from ferryman.verify.columns import Paint

EXAMPLE = "ferryman fleet release registry.example.com/models/street:3 && ferryman fleet advance --watch"

add_arguments = add_fleet_options


def run(args: argparse.Namespace) -> int:
    """Do it."""
    move = MOVES[args.move]
    if move.takes and not args.what:
        raise UserError(f"{args.move} of what?", hint=f"ferryman fleet {args.move} {move.takes}")
    if args.move == "agent":
        logging.basicConfig(level=logging.WARNING if args.quiet else logging.INFO, format="%(levelname)s %(message)s")
        return 0 if run_agent(args.box, once=args.once) else FerrymanError.exit_code
    if args.move == "collect":
        return _collect(args)
    if args.move == "token":
        return _tell(args, {"token": token_for(args.fleet, args.what)})
    if move.is_on_the_box:
        with Listener(sys.stderr, is_quiet=args.quiet) as progress:
            return _tell(args, act_on_box(args.move, args.box, args.what, progress))
    return _operate(args)


def _operate(args: argparse.Namespace) -> int:
    told = ""

    def show(done: Done) -> None:
        nonlocal told
        text = render_done(done, Paint(has_color(sys.stdout)), is_dry=args.dry_run)
        if text != told:
            told = text
            if args.json:
                write_json({**done.release.model_dump(mode="json"), "what": done.what, "standing": _plain(done)})
            else:
                write_text(text)
            sys.stdout.flush()

    wish = Wish(args.move, args.what, note=args.note, dry_run=args.dry_run, watch=args.watch)
    done = operate(args.fleet, wish, show)
    return FerrymanError.exit_code if done.standing and done.standing.verdict in ("halt", "halted") else 0


def _collect(args: argparse.Namespace) -> int:
    tls = (args.tls_cert, args.tls_key)
    with collecting(args.folder, args.secret, host=args.host, port=args.port, tls=tls) as collector:
        say(f"ready: {collector.url} (Ctrl-C stops it)")
        collector.serve()
    return 0


def _plain(done: Done) -> dict[str, Any] | None:  # JSON
    return asdict(done.standing) if done.standing else None


def _tell(args: argparse.Namespace, shown: dict[str, Any]) -> int:
    if args.json:
        write_json(shown)
    else:
        write_text("".join(f"{key}: {value}\n" for key, value in shown.items() if value))
    return FerrymanError.exit_code if shown.get("outcome") in ("refused", "rolled back", "waiting") else 0
