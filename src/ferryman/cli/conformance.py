"""`ferryman conformance`: does a server speak the Open Inference Protocol V2?"""

import argparse
import sys
from pathlib import Path

from ferryman.cli.access_options import add_access, read_access
from ferryman.cli.conformance_inputs import read_requests, split_pair
from ferryman.cli.conformance_table import conclude, conformance_table
from ferryman.cli.options import add_json, positive
from ferryman.cli.output import check_writable, has_color, write_file, write_json, write_text
from ferryman.cli.talk import Listener
from ferryman.conformance.check import Result
from ferryman.conformance.report import as_json, as_junit, breaks
from ferryman.conformance.suite import CHECKS, run_suite
from ferryman.conformance.target import Target
from ferryman.core.errors import ContractBroken, NotFound, NotReady, UserError
from ferryman.verify.columns import Paint

EXAMPLE = "ferryman conformance http://localhost:8080 --grpc localhost:8080 --junit conformance.xml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the server, what to ask of it and where the results go."""
    parser.add_argument("url", metavar="URL", help="the server's address: http://HOST:PORT")
    parser.add_argument(
        "--grpc", default="", metavar="HOST:PORT", help="where it speaks gRPC, with TLS as URL (no gRPC)"
    )
    parser.add_argument("--model", action="append", default=[], metavar="NAME", help="ask this one; repeatable (all)")
    parser.add_argument(
        "--inputs", action="append", default=[], metavar="NAME=FILE",
        help="a V2 request (JSON) for a model that can't be asked about made-up values",
    )  # fmt: skip
    parser.add_argument(
        "--header", action="append", default=[], metavar="NAME:VALUE", help="send this with every request; repeatable"
    )
    parser.add_argument("--timeout-s", type=positive, default=20.0, metavar="S", help="longest wait for an answer (20)")
    parser.add_argument(
        "--kserve-python", type=Path, metavar="PATH", help="the Python of an environment with the kserve SDK"
    )
    parser.add_argument(
        "--may-unload", action="store_true",
        help="also try to load and unload: each model is gone for a while, for all who ask it",
    )  # fmt: skip
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the results as JUnit XML, too")
    add_json(parser)
    add_access(parser)


def run(args: argparse.Namespace) -> int:
    """Run every check; 3 where the server breaks the protocol, 2 where it can't be reached."""
    target = Target(
        args.url.rstrip("/"),
        grpc=args.grpc,
        headers=dict(split_pair(text, ":", "--header NAME:VALUE") for text in args.header),
        timeout_s=args.timeout_s,
        kserve_python=args.kserve_python,
        inputs=read_requests(args.inputs),
        may_unload=args.may_unload,
        access=read_access(args),
    )
    check_writable(args.junit)
    results: list[Result] = []
    try:
        with Listener(sys.stderr, is_quiet=args.quiet) as progress:
            for result in run_suite(target, args.model):
                progress(f"{result.check.id} {result.model}", done=len(results) % len(CHECKS), total=len(CHECKS))
                results.append(result)
    except (NotReady, NotFound) as error:
        raise UserError(str(error), hint=error.hint) from None
    if args.junit:
        write_file(args.junit, as_junit(target, results))
    if args.json:
        write_json(as_json(target, results))
    else:
        write_text(conformance_table(results, Paint(has_color(sys.stdout))))
    broken = breaks(results)
    if not args.quiet:
        conclude(results, broken)
    return ContractBroken.exit_code if broken else 0
