"""The options of signing: which builder, how a registry is reached, the passphrase of a key."""

import argparse
import getpass
import os
import sys
from pathlib import Path

from ferryman.supply.keys import PASSPHRASE, is_encrypted
from ferryman.supply.provenance import LOCAL
from ferryman.supply.signing import Place


def add_builder(parser: argparse.ArgumentParser) -> None:
    """Take the name of the place that builds."""
    parser.add_argument("--builder", default=LOCAL, metavar="URI", help=f"what built it, for the provenance ({LOCAL})")


def add_place(parser: argparse.ArgumentParser) -> None:
    """Take how an image's registry is reached."""
    group = parser.add_argument_group("registry")
    group.add_argument("--insecure", action="store_true", help="speak plain HTTP also to another machine's registry")
    group.add_argument("--ca", type=Path, metavar="FILE", help="PEM: trust these authorities, too")


def place_of(args: argparse.Namespace) -> Place:
    """Give what add_place took."""
    return Place(insecure=args.insecure, ca=args.ca)


def passphrase_for(key: Path | None) -> bytes | None:
    """Ask for a passphrase where a key needs one (None: for a new key, twice) and the environment has none."""
    if os.environ.get(PASSPHRASE) or not sys.stdin.isatty() or (key is not None and not is_encrypted(key)):
        return os.environ.get(PASSPHRASE, "").encode() or None
    first = getpass.getpass(f"passphrase of {key or 'the new key'}: ")
    while key is None and getpass.getpass("once more: ") != first:
        first = getpass.getpass("they differ; passphrase: ")
    return first.encode()
