"""The part of `ferryman verify` that takes an image: its options, and what it shows."""

import argparse
import sys
from pathlib import Path

from ferryman import api
from ferryman.cli.conformance_inputs import read_requests, split_pair
from ferryman.cli.options import at_least_one, port_number, positive
from ferryman.cli.output import check_writable, has_color, write_file, write_json, write_text
from ferryman.cli.talk import Listener
from ferryman.cli.verify_image_table import image_table
from ferryman.container.report import as_json, as_junit
from ferryman.container.report_html import render_html
from ferryman.container.suite import CHECKS
from ferryman.core.errors import ContractBroken, UserError
from ferryman.verify.columns import Paint

_PROMISES = {
    "--max-image-mb": "largest size, uncompressed", "--max-start-s": "longest start",
    "--max-rss-mb": "largest process", "--p99-ms": "largest p99 latency", "--rps": "requests a second for --p99-ms",
}  # fmt: skip
_DEFAULT_S = {"start_s": 60.0, "grace_s": 30.0}
_SAME = ("engine", "port", "model", "memory_mb", "cpus", "max_image_mb", "max_start_s", "max_rss_mb", "p99_ms",
         "start_s", "grace_s")  # fmt: skip


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Take how an image is started, what it promised, and where the results go."""
    group = parser.add_argument_group("for an image")
    add = group.add_argument
    add("--engine", choices=("podman", "docker"), default="", help="what runs containers (the one that works)")
    add("--bundle", dest="inner", type=Path, metavar="BUNDLE", help="what the image serves (the one that lies in it)")
    add("--port", type=port_number, default=0, metavar="PORT", help="where it listens (as the image says, or 8080)")
    add("--env", action="append", default=[], metavar="NAME=VALUE", help="set this in the container; repeatable")
    add("--args", action="append", default=[], metavar="WORD", help="give this to its entrypoint; repeatable")
    add("--model", default="", metavar="NAME", help="ask this model (the bundle's, or the first that is listed)")
    add("--request", type=Path, metavar="FILE", help="a V2 request (JSON) for a model without a bundle")
    add("--memory-mb", type=at_least_one, default=0, metavar="MB", help="memory it may take (max_rss_mb and a margin)")
    add("--cpus", type=positive, default=0.0, metavar="N", help="CPUs it may take (as the bundle was tuned or built)")
    for name, what in _PROMISES.items():
        add(name, type=positive, metavar=name.rpartition("-")[2].upper(), help=f"promise: {what} (the contract's)")
    add("--start-s", type=positive, default=_DEFAULT_S["start_s"], metavar="S", help="give it up after so long (60)")
    add("--grace-s", type=positive, default=_DEFAULT_S["grace_s"], metavar="S", help="time to end in (30)")
    add("--only", action="append", default=[], choices=[check.id for check in CHECKS], metavar="CHECK",
        help=f"do this check; repeatable ({', '.join(check.id for check in CHECKS)})")  # fmt: skip
    add("--junit", type=Path, metavar="FILE", help="write the results as JUnit XML, too")
    add("--html", type=Path, metavar="FILE", help="write the results as a page, too")


def refuse_image_options(args: argparse.Namespace) -> None:
    """Raise UserError for an option that means nothing without an image."""
    for name in (*_SAME, "rps", "inner", "env", "args", "request", "only", "junit", "html"):
        if getattr(args, name) not in (None, 0, "", [], _DEFAULT_S.get(name)):
            option = "--" + name.replace("inner", "bundle").replace("_", "-")
            hint = "an image is NAME:TAG, oci:DIR or docker-archive:FILE; for a bundle see ferryman inspect --html"
            raise UserError(f"{option} is for an image, and {args.bundle} is none", hint=hint)


def run_image(args: argparse.Namespace) -> int:
    """Do the checks; 3 where a promise is broken."""
    for file in (args.junit, args.html):
        check_writable(file)
    env = dict(split_pair(pair, "=", "--env NAME=VALUE") for pair in args.env)
    request = read_requests([f"it={args.request}"])["it"] if args.request else None
    with Listener(sys.stderr, is_quiet=args.quiet) as progress:
        examined = api.verify_image(
            args.bundle, progress=progress, bundle=args.inner, env=env, args=tuple(args.args), at_rps=args.rps,
            request=request, only=tuple(args.only),
            **{name: getattr(args, name) for name in _SAME},
        )  # fmt: skip
    for file, text in ((args.junit, as_junit), (args.html, render_html)):
        if file:
            write_file(file, text(examined))
    if args.json:
        write_json(as_json(examined))
    if not args.json:
        write_text(image_table(examined, Paint(has_color(sys.stdout))))
    return 0 if examined.holds else ContractBroken.exit_code
