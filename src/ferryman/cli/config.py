"""`ferryman config`: environment variables."""

import argparse

from ferryman import api
from ferryman.cli.options import add_json
from ferryman.cli.output import write_json, write_text

EXAMPLE = "FERRYMAN_CACHE=/var/cache/ferryman ferryman config"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take nothing but the form of the answer."""
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print each variable with the value that is in force."""
    values = api.config()
    if args.json:
        write_json(values)
    else:
        longest = max(map(len, values), default=0)
        write_text("".join(f"{name:<{longest}}  {value or '(not set)'}\n" for name, value in values.items()))
    return 0
