"""`ferryman init`: guess a ferryman.toml."""

import argparse
import sys
from pathlib import Path

from ferryman import api
from ferryman.cli.options import add_json
from ferryman.cli.output import write_json, write_text
from ferryman.cli.talk import say

EXAMPLE = 'ferryman init yolox_nano.onnx --calibration "calib/*.jpg" --evaluation "val/*.jpg" --labels "val/*.txt"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the model and what is known of its data."""
    parser.add_argument(
        "source", metavar="MODEL", help="the trained model: a path (from --folder, or from here) or an http(s) URL"
    )
    parser.add_argument("--folder", type=Path, default=Path("."), help="where ferryman.toml is written; it is made")
    parser.add_argument("--name", help="the model's name when it is served (default: from the file's name)")
    parser.add_argument("--labels", help="glob or file with the truth of --evaluation")
    parser.add_argument("--calibration", help="glob of unlabelled inputs for INT8")
    parser.add_argument("--evaluation", help="glob or file of labelled inputs for the metric")
    parser.add_argument("--target", metavar="NAME", help="column of the --evaluation table that holds the truth")
    parser.add_argument("--factory", metavar="MODULE:FUNCTION", help="what makes the torch module of the weights")
    parser.add_argument(
        "--input", action="append", default=[], metavar="NAME:DTYPE:DIMxDIM...", dest="inputs",
        help="an input of a torch module, as images:float32:batchx3x224x224 (a name varies); may be repeated",
    )  # fmt: skip
    parser.add_argument("--signature", metavar="NAME", help="which signature of a SavedModel is served, of several")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="open a pickle, too: that runs whatever code is in it, now and at each build",
    )
    parser.add_argument("--force", action="store_true", help="replace a ferryman.toml that is there")
    parser.add_argument("--dry-run", action="store_true", help="print the file, write nothing")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write (or print) the guess, its reasons and what to check."""
    guess = api.init(
        args.source,
        folder=args.folder,
        name=args.name,
        calibration=args.calibration,
        evaluation=args.evaluation,
        labels=args.labels,
        target=args.target,
        factory=args.factory,
        inputs=args.inputs,
        signature=args.signature,
        trust=args.trust,
        force=args.force,
        dry_run=args.dry_run,
    )
    if args.json:
        write_json(
            {"path": guess.path, "text": guess.text, "reasons": guess.reasons, "questions": guess.questions,
             "format": guess.artifact.format, "signature": guess.artifact.signature}
        )  # fmt: skip
        return 0
    if not args.quiet:
        _explain(guess.reasons, guess.questions)
    if args.dry_run:
        write_text(guess.text)
    else:
        write_text(f"{guess.path}\n")
        if not args.quiet:
            say(f"next: {guess.next_step}")
    return 0


def _explain(reasons: list[str], questions: list[str]) -> None:
    for reason in reasons:
        say(f"  · {reason}" if sys.stderr.encoding.lower().startswith("utf") else f"  - {reason}")
    for question in questions:
        say(question, label="check", style="yellow")
