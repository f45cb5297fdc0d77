"""`ferryman deploy`: bring a bundle to where it is needed."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from ferryman import api
from ferryman.cli.deploy_table import render_changes, render_standing
from ferryman.cli.options import add_json, at_least_one
from ferryman.cli.output import has_color, write_json, write_text
from ferryman.cli.policy_options import add_policy
from ferryman.cli.talk import Listener
from ferryman.core.errors import FerrymanError
from ferryman.supply.policy import make_policy
from ferryman.verify.columns import Paint

EXAMPLE = "ferryman deploy plan kubernetes --image registry.example.com/street:1"
_MOVES = {
    "render": "(write the files that describe it)", "plan": "(show what would change)", "apply": "(make it so, wait)",
    "status": "(show how it stands)", "logs": "(show what it has written)", "remove": "(take away what was put there)",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what to do, the target, and what goes there."""
    parser.add_argument("move", choices=_MOVES, metavar="MOVE", help=", ".join(map(" ".join, _MOVES.items())))
    parser.add_argument("target", metavar="TARGET", help="NAME of a [targets.NAME], or a kind of target")
    parser.add_argument("--bundle", type=Path, metavar="BUNDLE", help="the bundle (dist/MODEL of the project)")
    parser.add_argument("--image", default="", metavar="REFERENCE", help="its image (as the target's section says)")
    parser.add_argument("--project", type=Path, default=Path(), metavar="DIR", help="ferryman.toml or its folder (.)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="with render: the folder (deploy/TARGET)")
    parser.add_argument("--lines", type=at_least_one, default=100, metavar="N", help="with logs: of each copy (100)")
    parser.add_argument("--dry-run", action="store_true", help="with apply and remove: only show what would change")
    add_json(parser)
    add_policy(parser.add_argument_group("what is accepted"))


def run(args: argparse.Namespace) -> int:
    """Do it."""
    policy = make_policy(args.policy, args.require_signature)
    there = api.Destination(args.target, project=args.project, bundle=args.bundle, image=args.image, policy=policy)
    if args.move == "render":
        return _render(there, args)
    if args.move == "status":
        return _status(there, args)
    if args.move == "logs":
        for line in there.logs(lines=args.lines):
            write_text(f"{line}\n")
        return 0
    is_dry = args.dry_run or args.move == "plan"
    with Listener(sys.stderr, is_quiet=args.quiet) as progress:
        if args.move == "remove":
            changes = there.remove(dry_run=is_dry, progress=progress)
        else:
            changes = there.plan() if is_dry else there.apply(progress)
    if args.json:
        write_json({"dry_run": is_dry, "changes": [asdict(change) for change in changes]})
    else:
        write_text(render_changes(changes, is_dry=is_dry, paint=Paint(has_color(sys.stdout))))
    return 0


def _render(there: api.Destination, args: argparse.Namespace) -> int:
    folder = args.output or Path("deploy") / args.target
    files = there.render(None if args.dry_run else folder)
    if args.json:
        write_json({"folder": str(folder), "files": dict(files)})
    else:
        write_text("".join(f"{folder / name}\n" for name in files))
    return 0


def _status(there: api.Destination, args: argparse.Namespace) -> int:
    standing = there.status()
    if args.json:
        write_json({**asdict(standing), "is_ready": standing.is_ready})
    else:
        write_text(render_standing(standing, Paint(has_color(sys.stdout))))
    return 0 if standing.is_ready else FerrymanError.exit_code
