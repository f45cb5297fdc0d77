"""`ferryman monitor silence`: alerts that somebody knows of, and need not be told for a time."""

import argparse
import getpass
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ferryman.cli.access_options import read_access
from ferryman.cli.options import duration
from ferryman.cli.output import write_json, write_text
from ferryman.client.admin import Admin
from ferryman.core.errors import UserError

SILENCING = ("silence", "silences", "unsilence")
_MATCHERS = ("rule", "model", "version", "severity", "id")
_FORMS = {
    "silence": "ferryman monitor silence URL --rule drift --for 2h --why 'a new lens'",
    "silences": "ferryman monitor silences URL",
    "unsilence": "ferryman monitor unsilence URL ID",
}


def add_silencing(parser: argparse.ArgumentParser) -> None:
    """Take which alerts are muted, how long and why."""
    for name in _MATCHERS:
        words = f"with silence: of this {name}" if name != "id" else "with silence: this one alert, by its id"
        parser.add_argument(f"--{name}", metavar=name.upper(), help=f"{words} (* and ? fit any)")
    parser.add_argument("--for", dest="lasts", type=duration, metavar="TIME", help="with silence: 30m, 2h, 7d")
    parser.add_argument("--why", metavar="TEXT", help="with silence: why nobody needs to hear of them")


def run_silencing(verb: str, words: Sequence[str], args: argparse.Namespace) -> int:
    """Make, list or end silences of a running server."""
    if len(words) != 1 + (verb == "unsilence"):
        raise UserError(f"'{verb}' takes {'a URL and an id' if verb == 'unsilence' else 'a URL'}", hint=_FORMS[verb])
    admin = Admin(words[0], access=read_access(args))
    if verb == "silences":
        told = admin.silences()
    elif verb == "unsilence":
        told = admin.unsilence(words[1])
    else:
        matchers = {name: getattr(args, name) for name in _MATCHERS if getattr(args, name) is not None}
        if not matchers or args.lasts is None or not args.why:
            raise UserError("a silence needs what it mutes, --for and --why", hint=_FORMS[verb])
        told = admin.silence(matchers, for_s=args.lasts.total_seconds(), author=_user(), comment=args.why)
    if args.json:
        write_json(told)
    elif verb == "silences":
        write_text(_listed(told))
    else:
        write_text(f"{'ended' if verb == 'unsilence' else 'made'} {told['id']}: {_said(told)}\n")
    return 0


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return f"user {os.getuid()}"


def _said(silence: Mapping[str, Any]) -> str:  # JSON
    what = " ".join(f"{key}={pattern}" for key, pattern in silence["matchers"].items())
    until = datetime.fromtimestamp(silence["until_s"]).astimezone()
    return f"{what} until {until:%Y-%m-%d %H:%M}, {silence['comment']} ({silence['author']})"


def _listed(told: Mapping[str, Any]) -> str:  # JSON
    lines = [f"{each['id']}  {_said(each)}" for each in told["silences"]]
    for window in told["maintenance"]:
        now = " (now)" if window["active"] else ""
        models = ", ".join(window["models"])
        lines.append(
            f"maintenance  model={models} {window['from']} to {window['to']} {window['zone']}{now}, {window['why']}"
        )
    return "\n".join(lines or ["nothing is silenced"]) + "\n"
