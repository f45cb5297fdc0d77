"""`ferryman inspect`: what a bundle is."""

import argparse
import sys
from pathlib import Path

from ferryman import api
from ferryman.cli.options import add_json
from ferryman.cli.output import has_color, terminal_width, write_file, write_json, write_text
from ferryman.cli.talk import say
from ferryman.core.bundle import Bundle
from ferryman.monitor.baseline import Baseline
from ferryman.verify.report import render_bundle, render_table
from ferryman.verify.report_baseline import render_baseline
from ferryman.verify.report_html import render_html

EXAMPLE = "ferryman inspect dist/street --html street.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the bundle and the form of the answer."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder or .ferry file")
    parser.add_argument(
        "--html", nargs="?", type=Path, const=Path(), metavar="FILE",
        help="write the whole report as one HTML file (default: NAME.html here)",
    )  # fmt: skip
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Check the digests, then print the bundle or write its report."""
    bundle = api.load(args.bundle)
    if args.html is not None:
        page = args.html if args.html != Path() else Path(f"{bundle.manifest.name}.html")
        write_file(page, render_html(bundle))
        if not args.quiet:
            say(f"wrote {page}")
    if args.json:
        write_json(_as_json(bundle))
    elif args.html is None:
        width, color = terminal_width(), has_color(sys.stdout)
        write_text(render_bundle(bundle, width=width, color=color))
        write_text("\n" + render_table(bundle.proof, width=width, color=color))
        if told := render_baseline(Baseline.from_json(bundle.baseline), width=width, color=color):
            write_text("\n" + told)
    return 0


def _as_json(bundle: Bundle) -> dict[str, object]:
    return {
        "path": bundle.path,
        "manifest": bundle.manifest,
        "deployment": bundle.deployment,
        "signature": bundle.artifact.signature,
        "made_by": bundle.artifact.made_by,
        "proof": bundle.proof,
        "golden": [{"name": golden.name, "answer": golden.answer} for golden in bundle.golden],
        "tolerance": bundle.tolerance,
        "baseline": bundle.baseline,
        "versions": bundle.versions,
    }
