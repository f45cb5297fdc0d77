"""`ferryman plan`: what a build would do."""

import argparse
import sys

from ferryman import api
from ferryman.cli.options import add_json, add_project
from ferryman.cli.output import has_color, terminal_width, write_json, write_text
from ferryman.cli.plan_table import render_plan

EXAMPLE = "ferryman plan street"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the project."""
    add_project(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the candidates, and what is not available and why."""
    plan = api.plan(args.project)
    if args.json:
        write_json(plan.as_json())
    else:
        write_text(render_plan(plan, width=terminal_width(), color=has_color(sys.stdout)))
    return 0
