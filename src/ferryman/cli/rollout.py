"""`ferryman rollout`: bring a new version of a served model in, step by step."""

import argparse
import sys
import time
from typing import Any

from ferryman.cli.access_options import add_access, read_access
from ferryman.cli.options import add_json
from ferryman.cli.output import has_color, terminal_width, write_json, write_text
from ferryman.cli.rollout_options import add_admin, add_plan, read_plan_options
from ferryman.cli.rollout_table import render_rollout, render_rollouts
from ferryman.client.admin import Admin
from ferryman.core.errors import FerrymanError, UserError
from ferryman.verify.columns import Paint

EXAMPLE = "ferryman rollout start street --version 2 && ferryman rollout status street --watch"
_MOVES = {
    "start": "bring a version in", "status": "show how it stands", "promote": "make it the active version now",
    "back": "return to the version from before", "pause": "stay at this step", "resume": "go on",
}  # fmt: skip
_ENDED = ("promoted", "rolled back", "aborted")
_LOOK_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what to do, the model, the plan and the server."""
    moves = ", ".join(f"{move} ({what})" for move, what in _MOVES.items())
    parser.add_argument("move", choices=_MOVES, metavar="MOVE", help=moves)
    parser.add_argument("model", nargs="?", metavar="MODEL", help="the served model; status shows all without it")
    parser.add_argument(
        "--watch", action="store_true", help="with status: follow it to its end; exit code 1 unless promoted"
    )
    add_admin(parser)
    add_access(parser)
    add_plan(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Do it, and show how the rollout stands."""
    admin = Admin(args.admin, access=read_access(args))
    plan = read_plan_options(args)
    if args.model is None:
        if args.move != "status" or args.watch:
            raise UserError(f"{args.move} of which model?", hint=f"ferryman rollout {args.move} MODEL")
        _show(admin.rollouts(), args)
        return 0
    if args.move == "start":
        admin.start_rollout(args.model, args.version, plan)
        return _follow(admin, args, until=(*_ENDED, "shadow", "canary"))
    if args.move == "status" and args.watch:
        return _follow(admin, args, until=_ENDED)
    _show(admin.rollout(args.model) if args.move == "status" else admin.move_rollout(args.model, args.move), args)
    return 0


def _follow(admin: Admin, args: argparse.Namespace, *, until: tuple[str, ...]) -> int:
    """Show each turn that a rollout takes, until it is at one of these phases."""
    told = 0
    while True:
        shown = admin.rollout(args.model)
        if len(shown["events"]) != told or shown["phase"] in until:
            told = len(shown["events"])
            _show(shown, args)
        if shown["phase"] in until:
            return FerrymanError.exit_code if shown["phase"] in ("rolled back", "aborted") else 0
        time.sleep(_LOOK_S)


def _show(shown: dict[str, Any] | list[dict[str, Any]], args: argparse.Namespace) -> None:  # JSON
    width, paint = terminal_width(), Paint(has_color(sys.stdout))
    if args.json:
        write_json({"rollouts": shown} if isinstance(shown, list) else shown)
    elif isinstance(shown, list):
        write_text(render_rollouts(shown, width=width, paint=paint))
    else:
        write_text(render_rollout(shown, width=width, paint=paint))
    sys.stdout.flush()
