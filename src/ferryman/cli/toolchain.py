"""`ferryman toolchain`: environments of their own for converters that need one."""

import argparse
import sys
from dataclasses import asdict, dataclass

from ferryman import api
from ferryman.cli.options import add_json
from ferryman.cli.output import has_color, terminal_width, write_json, write_text
from ferryman.cli.talk import Listener
from ferryman.cli.toolchain_table import tabulate
from ferryman.core.errors import ConfigError
from ferryman.verify.columns import Paint

EXAMPLE = "ferryman toolchain add coreml"
_ACTIONS = ("list", "add", "remove")


@dataclass(frozen=True)
class Removed:
    """Tell what a removal gave, and which installed toolchains stood on it."""

    name: str
    freed_mb: float
    needed_by: list[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what to do with which toolchains."""
    does = "list (what there is), add (make; pinned packages are downloaded), remove (free the disk)"
    parser.add_argument("action", choices=_ACTIONS, metavar="ACTION", help=does)
    parser.add_argument("names", nargs="*", metavar="NAME", help="toolchains, as `list` shows them")
    parser.add_argument("--all", action="store_true", help="every toolchain")
    parser.add_argument("--dry-run", action="store_true", help="show what would be installed, and install nothing")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Do it; what is there already is left as it is."""
    if args.action == "list":
        known = api.toolchains(args.names)  # with those that they stand on
        return _show([made for made in known if not args.names or made.name in args.names], as_json=args.json)
    if not args.names and not args.all:
        raise ConfigError(f"{args.action} which toolchain?", hint="name some, or --all; ferryman toolchain list")
    names = [made.name for made in api.toolchains()] if args.all else args.names
    if args.action == "remove":
        return _remove(names, args)
    if args.dry_run:
        return _show(api.toolchains(names), as_json=args.json)
    with Listener(sys.stderr, is_quiet=args.quiet) as progress:
        return _show(api.add_toolchains(names, progress=progress), as_json=args.json)


def _remove(names: list[str], args: argparse.Namespace) -> int:
    removed = []
    for name in names:
        others = [made for made in api.toolchains() if made.is_installed and made.name not in names]
        left = [made.name for made in others if made.base == name]  # of no use without it
        removed.append(Removed(name, api.remove_toolchain(name, dry_run=args.dry_run), left))
    if args.json:
        write_json({"removed": [asdict(one) for one in removed]})
        return 0
    would = "would free" if args.dry_run else "freed"
    for one in removed:
        needs = f"; {', '.join(one.needed_by)} can't work without it" if one.needed_by else ""
        write_text(f"{one.name}: {would} {one.freed_mb:.0f} MB{needs}\n")
    return 0


def _show(found: list[api.Made], *, as_json: bool) -> int:
    if as_json:
        write_json({"toolchains": [asdict(made) for made in found]})
    else:
        write_text("\n".join(tabulate(found, Paint(has_color(sys.stdout)), terminal_width())) + "\n")
    return 0
