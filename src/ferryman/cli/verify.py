"""`ferryman verify`: check a bundle again, here."""

import argparse
import sys
from pathlib import Path

from ferryman import api
from ferryman.cli.options import add_json
from ferryman.cli.output import has_color, write_json, write_text
from ferryman.cli.talk import Listener
from ferryman.core.errors import ContractBroken
from ferryman.verify.columns import Paint, rows
from ferryman.verify.figures import joined, plain, significant
from ferryman.verify.report import clause_columns

EXAMPLE = "ferryman verify dist/street"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the bundle."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder or .ferry file")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure on this machine what can be measured; 3 where a promise or a golden sample doesn't hold."""
    with Listener(sys.stderr, is_quiet=args.quiet) as progress:
        verified = api.verify(args.bundle, progress=progress)
    if args.json:
        write_json(
            {"name": verified.name, "holds": verified.holds, "clauses": verified.clauses, "notes": verified.notes,
             "golden": verified.golden, "golden_ok": verified.golden_ok}
        )  # fmt: skip
    else:
        write_text("\n".join(_lines(verified, Paint(has_color(sys.stdout)))) + "\n")
    return 0 if verified.holds else ContractBroken.exit_code


def _lines(verified: api.Verified, paint: Paint) -> list[str]:
    distances = joined((name, significant(distance)) for name, distance in verified.golden.items())
    golden = "✓ golden samples are answered right" if verified.golden_ok else "✗ golden samples are answered wrong"
    verdict = "✓ the contract holds here" if verified.holds else "✗ the contract doesn't hold here"
    return [
        paint(plain(verified.name), "bold"),
        *(f"  {line}" for line in (rows(clause_columns(verified.clauses), paint) if verified.clauses else [])),
        paint(golden, "green" if verified.golden_ok else "red") + (f"  ({distances})" if distances else ""),
        *(f"note: {plain(note)}" for note in verified.notes),
        paint(verdict, "bold", "green" if verified.holds else "red"),
    ]
