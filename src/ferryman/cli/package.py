"""`ferryman package`: write a bundle as an OCI image, without Docker."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from ferryman import api
from ferryman.cli.broken import warn_of_broken
from ferryman.cli.options import add_json
from ferryman.cli.output import write_json, write_text
from ferryman.cli.package_table import image_table, plan_table
from ferryman.cli.talk import Listener

EXAMPLE = "ferryman package dist/street --tag localhost/street:1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the bundle, the image's name, what it stands on and where it goes."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder or .ferry file")
    parser.add_argument("--tag", required=True, metavar="HOST/NAME:TAG", help="what the image is called")
    parser.add_argument(
        "--output", type=Path, metavar="PATH",
        help="an OCI layout's folder, or a .tar for docker load and podman load (default: BUNDLE.oci, unless pushed)",
    )  # fmt: skip
    parser.add_argument("--push", action="store_true", help="push it to its registry, logged in as docker is")
    parser.add_argument("--insecure", action="store_true", help="the registry may speak plain http")
    parser.add_argument(
        "--platform", default="", metavar="LIST", help="linux/amd64,linux/arm64: an image of several (this machine's)"
    )
    parser.add_argument(
        "--base", default="", metavar="REF", help="stand on this image, or oci:FOLDER (a slim one made here)"
    )
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="take packages from this folder, not the network")
    parser.add_argument("--extra", action="append", default=[], metavar="NAME", help="add ferryman[NAME]; repeatable")
    parser.add_argument("--opencv", action="store_true", help="decode pictures with OpenCV, where Pillow would do")
    parser.add_argument("--dockerfile", type=Path, metavar="DIR", help="write a Dockerfile and what it needs, instead")
    parser.add_argument("--dry-run", action="store_true", help="say what would go in, and write nothing")
    add_json(parser)


def _output(args: argparse.Namespace) -> Path | None:
    """Say where the image goes; beside a .ferry file, and not beside what is unpacked of it in the cache."""
    bundle: Path = args.bundle
    named: Path | None = args.output
    is_named = named or args.push or args.dockerfile or not bundle.is_file()
    return named if is_named else bundle.with_suffix(".oci")


def run(args: argparse.Namespace) -> int:
    """Make the image, or say what would be in it; equal parts give an equal digest."""
    choices = api.PackageChoices(
        output=_output(args), base=args.base, wheels=args.wheels, opencv=args.opencv, push=args.push,
        platforms=tuple(args.platform.split(",")) if args.platform else (), extras=tuple(args.extra),
        insecure=args.insecure, dockerfile=args.dockerfile,
    )  # fmt: skip
    bundle = api.load(args.bundle)
    with Listener(sys.stderr, is_quiet=args.quiet) as progress:
        if args.dry_run:
            planned = api.plan_package(bundle, args.tag, progress=progress, **choices)
        else:
            made = api.package(bundle, args.tag, progress=progress, **choices)
    warn_of_broken(bundle)
    if args.json:
        write_json({"images": [asdict(one) for one in planned]} if args.dry_run else asdict(made))
    else:
        write_text(plan_table(planned) if args.dry_run else image_table(made))
    return 0
