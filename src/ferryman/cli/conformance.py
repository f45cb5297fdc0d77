"""`ferryman conformance`: does a server speak the Open Inference Protocol V2?"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ferryman.cli.options import add_json, positive
from ferryman.cli.output import has_color, terminal_width, write_file, write_json, write_text
from ferryman.cli.talk import Listener, say
from ferryman.conformance.check import Result
from ferryman.conformance.report import as_json, as_junit, breaks
from ferryman.conformance.suite import CHECKS, run_suite
from ferryman.conformance.target import Target
from ferryman.core.errors import ConfigError, ContractBroken, NotReady, UserError
from ferryman.verify.columns import Cell, Column, Paint, rows, wrap
from ferryman.verify.figures import plain

EXAMPLE = "ferryman conformance http://localhost:8080 --grpc localhost:8080 --junit conformance.xml"
_SIGNS = {"passed": "✓", "failed": "✗", "not run": "·"}
_STYLES = {"passed": "green", "failed": "red", "not run": "dim"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the server, what to ask of it and where the results go."""
    parser.add_argument("url", metavar="URL", help="the server's address: http://HOST:PORT")
    parser.add_argument("--grpc", default="", metavar="HOST:PORT", help="where it speaks gRPC (default: not asked)")
    parser.add_argument("--model", action="append", default=[], metavar="NAME", help="a model to ask (default: all)")
    parser.add_argument(
        "--inputs", action="append", default=[], metavar="NAME=FILE",
        help="a V2 request (JSON) for a model that can't be asked about made-up values",
    )  # fmt: skip
    parser.add_argument(
        "--header", action="append", default=[], metavar="NAME:VALUE", help="send this with every request (an API key)"
    )
    parser.add_argument("--timeout-s", type=positive, default=20.0, metavar="S", help="longest wait for an answer (20)")
    parser.add_argument(
        "--kserve-python", type=Path, metavar="PATH", help="the Python of an environment with the kserve SDK"
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the results as JUnit XML, too")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run every check; 3 where the server breaks the protocol, 2 where it can't be reached."""
    target = Target(
        args.url.rstrip("/"),
        grpc=args.grpc,
        headers=dict(_split(text, ":", "--header NAME:VALUE") for text in args.header),
        timeout_s=args.timeout_s,
        kserve_python=args.kserve_python,
        inputs={name: _read(Path(file)) for name, file in (_split(text, "=", "NAME=FILE") for text in args.inputs)},
    )
    results: list[Result] = []
    try:
        with Listener(sys.stderr, is_quiet=args.quiet) as progress:
            for result in run_suite(target, args.model):
                progress(f"{result.check.id} {result.model}", done=len(results) % len(CHECKS), total=len(CHECKS))
                results.append(result)
    except NotReady as error:
        raise UserError(str(error), hint=error.hint) from None
    if args.junit:
        write_file(args.junit, as_junit(target, results))
    if args.json:
        write_json(as_json(target, results))
    else:
        write_text(_table(results, Paint(has_color(sys.stdout))))
    broken = breaks(results)
    if not args.quiet:
        _conclude(results, broken)
    return ContractBroken.exit_code if broken else 0


def _table(results: Sequence[Result], paint: Paint) -> str:
    columns = [
        Column("", tuple(Cell(_SIGNS[one.verdict], _STYLES[one.verdict]) for one in results), is_text=True),
        Column("check", tuple(Cell(one.check.id) for one in results), is_text=True),
        Column("model", tuple(Cell(plain(one.model)) for one in results), is_text=True),
        Column("what", tuple(Cell(one.check.title) for one in results), is_text=True),
    ]
    heading, *lines = rows(columns, paint)
    told = [heading]
    for result, line in zip(results, lines, strict=True):
        told.append(line)
        if result.verdict == "failed":
            told += wrap(f"{plain(result.message)} ({result.check.section}: {result.check.says})", terminal_width() - 2,
                         indent="     ")  # fmt: skip
        elif result.verdict == "not run":
            told += [paint(text, "dim") for text in wrap(f"not run: {plain(result.message)}", terminal_width() - 2,
                                                         indent="     ")]  # fmt: skip
    return "\n".join(told) + "\n"


def _conclude(results: Sequence[Result], broken: Sequence[Result]) -> None:
    counts = {verdict: sum(one.verdict == verdict for one in results) for verdict in _SIGNS}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    say(f"{told}: {'the server breaks the protocol' if broken else 'the server keeps the protocol as far as asked'}")


def _split(text: str, sign: str, form: str) -> tuple[str, str]:
    name, found, value = text.partition(sign)
    if not found or not name.strip():
        raise ConfigError(f"{text!r} is not of the form {form}", hint=f"give {form}")
    return name.strip(), value.strip()


def _read(file: Path) -> dict[str, Any]:  # JSON
    try:
        request = json.loads(file.read_bytes())
        if isinstance(request["inputs"], list):
            return dict(request)
    except (OSError, ValueError, TypeError, KeyError) as error:
        hint = 'JSON with "inputs", as POST .../infer takes it'
        raise ConfigError(f"{file} is not a request: {error!r}", hint=hint) from None
    raise ConfigError(f"{file} is not a request: 'inputs' is no list", hint="as POST .../infer takes it")
