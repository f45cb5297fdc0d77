"""`ferryman verify`: check a bundle or an image here; or set a file made elsewhere beside a project's source."""

import argparse
import sys
from pathlib import Path

from ferryman import api
from ferryman.cli.options import add_json
from ferryman.cli.output import has_color, write_json, write_text
from ferryman.cli.talk import Listener
from ferryman.cli.verify_image import add_image_options, refuse_image_options, run_image
from ferryman.core.errors import ContractBroken
from ferryman.verify.columns import Paint, rows
from ferryman.verify.figures import joined, plain, significant
from ferryman.verify.report import clause_columns
from ferryman.verify.report_candidate import render_examined

EXAMPLE = "ferryman verify dist/street"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the bundle or the image, or the project and a candidate."""
    parser.add_argument(
        "bundle", metavar="BUNDLE", help="a bundle's folder or .ferry file; an image: NAME:TAG, oci:DIR, "
        "docker-archive:FILE; with --candidate the project",
    )  # fmt: skip
    parser.add_argument(
        "--candidate", type=Path, metavar="FILE", help="a model file made elsewhere, to set beside the project's source"
    )
    add_json(parser)
    add_image_options(parser)


def run(args: argparse.Namespace) -> int:
    """Measure on this machine what can be measured; 3 where a promise or a golden sample doesn't hold."""
    if api.is_image(args.bundle) and not args.candidate:
        return run_image(args)
    refuse_image_options(args)
    if args.candidate:
        return _run_candidate(args)
    with Listener(sys.stderr, is_quiet=args.quiet) as progress:
        verified = api.verify(args.bundle, progress=progress)
    if args.json:
        write_json(
            {"name": verified.name, "holds": verified.holds, "clauses": verified.clauses, "notes": verified.notes,
             "warnings": verified.warnings, "golden": verified.golden, "golden_ok": verified.golden_ok}
        )  # fmt: skip
    else:
        write_text("\n".join(_lines(verified, Paint(has_color(sys.stdout)))) + "\n")
    return 0 if verified.holds else ContractBroken.exit_code


def _run_candidate(args: argparse.Namespace) -> int:
    with Listener(sys.stderr, is_quiet=args.quiet) as progress:
        examined = api.verify_candidate(args.bundle, args.candidate, progress=progress)
    if args.json:
        names = ("holds", "assumed", "warnings", "proof")
        write_json({name: getattr(examined, name) for name in names})
    else:
        told = (*(f"warning: {one}" for one in examined.warnings), *(f"assumed: {one}" for one in examined.assumed))
        write_text(render_examined(examined.proof, told, color=has_color(sys.stdout)))
    return 0 if examined.holds else ContractBroken.exit_code


def _lines(verified: api.Verified, paint: Paint) -> list[str]:
    distances = joined((name, significant(distance)) for name, distance in verified.golden.items())
    golden = "✓ golden samples are answered right" if verified.golden_ok else "✗ golden samples are answered wrong"
    verdict = "✓ the contract holds here" if verified.holds else "✗ the contract doesn't hold here"
    return [
        paint(plain(verified.name), "bold"),
        *(f"  {line}" for line in (rows(clause_columns(verified.clauses), paint) if verified.clauses else [])),
        paint(golden, "green" if verified.golden_ok else "red") + (f"  ({distances})" if distances else ""),
        *(f"note: {plain(note)}" for note in verified.notes),
        *(paint(f"warning: {plain(one)}", "bold", "yellow") for one in verified.warnings),
        paint(verdict, "bold", "green" if verified.holds else "red"),
    ]
