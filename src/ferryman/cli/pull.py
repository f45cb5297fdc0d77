"""`ferryman pull`: take a bundle from a registry."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from ferryman import api
from ferryman.cli.options import add_json
from ferryman.cli.output import write_json, write_text
from ferryman.cli.policy_options import add_policy
from ferryman.cli.signing_options import add_place, place_of
from ferryman.cli.talk import Listener, say
from ferryman.supply.policy import make_policy
from ferryman.verify.figures import size

EXAMPLE = "ferryman pull registry.example.com/models/street:3 --output dist/street"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the bundle's name in the registry, where it goes, and how to reach the registry."""
    parser.add_argument("reference", metavar="REF", help="which: host/name:tag, or host/name@sha256:...")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder to write (default: dist/ and REF's last word)"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be fetched, and write nothing")
    add_policy(parser.add_argument_group("what is accepted"))
    add_place(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Pull it, whole and checked, or leave everything as it was; on stdout is the folder."""
    with Listener(sys.stderr, is_quiet=args.quiet) as progress:
        moved = api.pull(
            args.reference, args.output, policy=make_policy(args.policy, args.require_signature), place=place_of(args),
            dry_run=args.dry_run, progress=progress,
        )  # fmt: skip
    if args.json:
        write_json({**asdict(moved), "dry_run": args.dry_run})
        return 0
    if not args.quiet:
        verb = "would fetch" if args.dry_run else "fetched"
        say(f"{moved.name}: {verb} {size(moved.moved_bytes)}; {size(moved.kept_bytes)} were here already")
        say(moved.reference)
    write_text(f"{moved.path}\n")
    return 0
