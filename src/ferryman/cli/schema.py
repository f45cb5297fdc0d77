"""`ferryman schema`: every key of ferryman.toml."""

import argparse
import json

from ferryman import api
from ferryman.cli.options import add_json
from ferryman.cli.output import write_json, write_text

EXAMPLE = "ferryman schema > ferryman.schema.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take nothing but the form of the answer."""
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the JSON schema, indented for people or on one line."""
    if args.json:
        write_json(api.schema())
    else:
        write_text(json.dumps(api.schema(), indent=2) + "\n")
    return 0
