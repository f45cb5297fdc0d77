"""`ferryman demo`: the whole way in a minute or two."""

import argparse
from pathlib import Path

from ferryman.cli.options import port_number
from ferryman.demo.run import run_demo

EXAMPLE = "ferryman demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take a folder and a port."""
    parser.add_argument("--folder", type=Path, default=Path("ferryman-demo"), help="where the demo works")
    parser.add_argument("--port", type=port_number, default=0, help="port of the demo's server; 0: any free one")


def run(args: argparse.Namespace) -> int:
    """Run the demo."""
    return run_demo(args.folder, open_port=args.port)
