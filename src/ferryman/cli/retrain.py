"""`ferryman retrain`: train, build, and bring the result in as the next version of what is served."""

import argparse
import shlex
import sys
from pathlib import Path

from ferryman import api
from ferryman.cli.access_options import add_access, read_access
from ferryman.cli.options import add_json
from ferryman.cli.output import write_json, write_text
from ferryman.cli.rollout_options import add_admin, read_plan_file
from ferryman.cli.talk import Listener

EXAMPLE = "ferryman retrain elec --train 'python train.py' --repository models --admin http://127.0.0.1:8081"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the project, the training, and where its result is served."""
    parser.add_argument("project", type=Path, metavar="PROJECT", help="ferryman.toml or its folder")
    parser.add_argument(
        "--train", default="", metavar="COMMAND", help="what trains, run in the project's folder; no shell reads it"
    )
    parser.add_argument(
        "--repository",
        type=Path,
        required=True,
        metavar="DIR",
        help="what the server was given to serve: MODEL/VERSION",
    )
    parser.add_argument(
        "--plan", type=Path, metavar="FILE", help='the rollout\'s plan as JSON, as {"step_s": 30}; answers may differ'
    )
    add_admin(parser)
    add_access(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Go the whole way; the exit code says where it ended: 0 promoted, 3 the contract doesn't hold, 1 or 2 else."""
    with Listener(sys.stderr, is_quiet=args.quiet) as progress:
        made = api.retrain(
            args.project, args.repository, args.admin,
            train=shlex.split(args.train), plan=read_plan_file(args.plan), access=read_access(args), progress=progress,
        )  # fmt: skip
    if args.json:
        write_json({"model": made.model, "version": made.version, "path": made.path, "digest": made.digest})
    else:
        write_text(f"{made.model}: version {made.version} serves\n{made.path}\n")
    return 0
