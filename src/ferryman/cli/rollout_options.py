"""The plan of a rollout on the command line; what is left out is the server's to choose."""

import argparse
import json
from pathlib import Path
from typing import Any

from ferryman.cli.options import count, positive, share
from ferryman.core.errors import UserError

_PLAIN = ("shadow", "step_s", "min_requests", "max_error_rate", "max_p99_ratio", "max_disagreement", "keep_s")
_ANY = "any"
_ADMIN = "http://127.0.0.1:8081"  # beside the port that `ferryman serve` takes by itself


def add_admin(parser: argparse.ArgumentParser) -> None:
    """Take the address that steers the server."""
    told = f"the server's admin address, as it said when it was ready ({_ADMIN})"
    parser.add_argument("--admin", default=_ADMIN, metavar="URL", help=told)


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Take the version and the plan of `start`."""
    plan = parser.add_argument_group("the plan, for start")
    plan.add_argument("--version", metavar="V", help="the version to bring in")
    plan.add_argument(
        "--plan",
        type=Path,
        metavar="FILE",
        help='a JSON file of the plan\'s keys, as {"step_s": 30}; options win over it',
    )
    plan.add_argument(
        "--shadow",
        type=share,
        metavar="SHARE",
        help="share of requests that both versions answer and compare (0.1; 0: none)",
    )
    plan.add_argument(
        "--steps",
        type=_shares,
        metavar="A,B,..",
        help="shares of the requests that it gets, one after another (0.01,0.05,0.25,0.5)",
    )
    plan.add_argument("--step-s", type=positive, metavar="S", help="seconds that a step lasts at least (60)")
    plan.add_argument(
        "--min-requests", type=count, metavar="N", help="requests that it answers in a step at least (200)"
    )
    plan.add_argument("--max-error-rate", type=share, metavar="SHARE", help="how much more often it may fail (0.01)")
    plan.add_argument(
        "--max-p99-ratio", type=positive, metavar="R", help="its p99 latency over the active version's, at most (1.5)"
    )
    plan.add_argument(
        "--max-disagreement", type=share, metavar="SHARE", help="share of compared answers that may differ (0.01)"
    )
    plan.add_argument(
        "--agreement", type=_limit, action="append", metavar="FIGURE=LIMIT",
        help="how far two answers may be apart before they differ, as label_changed=0.05; once for each figure, and "
        f"'{_ANY}' compares nothing (as the golden samples have it)",
    )  # fmt: skip
    plan.add_argument(
        "--keep-s",
        type=positive,
        metavar="S",
        help="seconds that the old version stays loaded after the promotion (600)",
    )
    plan.add_argument("--no-auto-promote", action="store_true", help="wait for `promote` after the last step")


def read_plan_options(args: argparse.Namespace) -> dict[str, Any]:  # JSON
    """Give the plan as asked; raises UserError where it is asked for and not wanted, or the other way round."""
    plan = {
        **read_plan_file(args.plan),
        **{name: getattr(args, name) for name in _PLAIN if getattr(args, name) is not None},
    }
    if args.steps is not None:
        plan["steps"] = args.steps
    if args.agreement is not None:
        plan["agreement"] = {} if (_ANY, 0.0) in args.agreement else dict(args.agreement)
    if args.no_auto_promote:
        plan["auto_promote"] = False
    if args.move != "start" and (plan or args.version):
        raise UserError(f"{args.move} takes no version and no plan", hint="they are for `ferryman rollout start`")
    if args.move == "start" and not (args.model and args.version):
        raise UserError("start what?", hint="ferryman rollout start MODEL --version V")
    return plan


def read_plan_file(file: Path | None) -> dict[str, Any]:  # JSON
    """Read a JSON object of the plan's keys, {} without a file; raises UserError."""
    if file is None:
        return {}
    try:
        plan = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} can't be read: {error}", hint="a JSON object of the plan's keys") from None
    if not isinstance(plan, dict):
        raise UserError(f"{file} holds no JSON object", hint='{"steps": [0.05, 0.5], "min_requests": 1000}')
    return plan


def _shares(text: str) -> list[float]:
    try:
        shares = [share(part.strip()) for part in text.split(",")]
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; give shares that grow, as 0.05,0.25,0.5") from None
    if sorted(set(shares)) != shares or shares[0] == 0 or shares[-1] == 1:
        raise argparse.ArgumentTypeError(f"'{text}' are no shares over 0 and under 1 that grow, as 0.05,0.25,0.5")
    return shares


def _limit(text: str) -> tuple[str, float]:
    name, sign, limit = text.partition("=")
    if text == _ANY:
        return _ANY, 0.0
    try:
        return (name, float(limit)) if sign and name else _refuse(text)
    except ValueError:
        return _refuse(text)


def _refuse(text: str) -> tuple[str, float]:
    raise argparse.ArgumentTypeError(f"'{text}' is not FIGURE=LIMIT, as label_changed=0.05, or '{_ANY}'")
