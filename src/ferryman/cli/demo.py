"""`ferryman demo`: the whole way in a minute or two."""

import argparse
import sys
from pathlib import Path

from ferryman import api
from ferryman.cli.answers import tabulate
from ferryman.cli.options import add_json, port_number
from ferryman.cli.output import has_color, terminal_width, write_file, write_json, write_text
from ferryman.cli.talk import Listener
from ferryman.demo.run import run_demo
from ferryman.verify.columns import Paint
from ferryman.verify.report import render_table
from ferryman.verify.report_html import render_html

EXAMPLE = "ferryman demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take a folder and a port."""
    parser.add_argument("--folder", type=Path, default=Path("ferryman-demo"), help="where the demo works")
    parser.add_argument("--port", type=port_number, default=0, help="port of the demo's server; 0: any free one")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Build, serve and ask; show the table, the answer and where the report and the drawn picture are."""
    color, width = has_color(sys.stdout), terminal_width()

    with Listener(sys.stderr, is_quiet=args.quiet) as progress:

        def show(built: api.Built) -> None:
            progress.clear()
            if not args.json:
                write_text(render_table(built.proof, width=width, color=color) + "\n")
                sys.stdout.flush()

        shown = run_demo(args.folder, port=args.port, progress=progress, show=show)
    report = args.folder / "report.html"
    write_file(report, render_html(shown.built.bundle))
    if args.json:
        write_json(
            {"bundle": shown.built.bundle.path, "holds": shown.built.holds, "winner": shown.built.proof.winner,
             "seconds": shown.built.seconds, "answer": shown.answer, "picture": shown.picture, "report": report}
        )  # fmt: skip
        return 0
    write_text(tabulate([(f"answer of {shown.url}", shown.answer)], min_score=0.25, width=width, paint=Paint(color)))
    write_text(f"\nbundle   {shown.built.bundle.path}\nreport   {report}\npicture  {shown.picture}\n")
    return 0
