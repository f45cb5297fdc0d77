"""`ferryman monitor`: look at a server live, silence its alerts, or write what Prometheus and Grafana watch by."""

import argparse
import json
from pathlib import Path
from typing import Any

from ferryman import api
from ferryman.cli.access_options import add_access, read_access
from ferryman.cli.monitor_live import look_on, look_once
from ferryman.cli.monitor_silences import SILENCING, add_silencing, run_silencing
from ferryman.cli.options import add_json
from ferryman.cli.output import write_file, write_json, write_text
from ferryman.cli.talk import say
from ferryman.client.admin import Admin
from ferryman.core.deployment import Deployment, load_project
from ferryman.core.errors import ConfigError, UserError
from ferryman.monitor.prometheus.files import files_of
from ferryman.targets.yaml import write_yaml

EXAMPLE = "ferryman monitor http://127.0.0.1:8081"
_RULES = "rules"
_WORDS = (
    "the server's admin address, as it said when it was ready; or: rules BUNDLE (write rules and tests of them for "
    "Prometheus, and a dashboard for Grafana, from the contract of a bundle, a project's folder or its ferryman.toml); "
    "or: silence URL (mute alerts), silences URL (what mutes them), unsilence URL ID"
)
_LOOK_TIMEOUT_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the server, or the bundle whose rules are written."""
    parser.add_argument("words", nargs="+", metavar="URL | rules [BUNDLE] | silence URL", help=_WORDS)
    parser.add_argument("--once", action="store_true", help="look for one second, show it, and end")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("monitoring"), metavar="DIR", help="with rules: into this folder"
    )
    add_silencing(parser)
    add_access(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Look on until Ctrl-C, silence alerts, or write the rules."""
    first, *rest = args.words
    if first in SILENCING:
        return run_silencing(first, rest, args)
    if len(rest) > (first == _RULES):
        raise UserError(f"what is '{rest[-1]}'?", hint="ferryman monitor URL, or ferryman monitor rules BUNDLE")
    if first == _RULES:
        return _write_rules(Path(rest[0]) if rest else Path("."), args)
    admin = Admin(first, timeout_s=_LOOK_TIMEOUT_S, access=read_access(args))
    (look_once if args.once else look_on)(admin, first, as_json=args.json)
    return 0


def _write_rules(what: Path, args: argparse.Namespace) -> int:
    deployment = _deployment(what)
    if not deployment.monitor.alerts.enabled:
        raise ConfigError("alerts are turned off", hint="[monitor.alerts] enabled = true")
    written = {args.output / name: _text(name, content) for name, content in files_of(deployment).items()}
    for path, text in written.items():
        write_file(path, text)
    if args.json:
        write_json({"files": [str(path) for path in written]})
        return 0
    write_text("".join(f"{path}\n" for path in written))
    if not args.quiet:
        say(f"check them: promtool test rules {args.output}/*.tests.yml")
    return 0


def _deployment(path: Path) -> Deployment:
    if path.suffix == ".toml" or (path / "ferryman.toml").is_file():
        return load_project(path).deployment
    return api.load(path).deployment


def _text(name: str, content: Any) -> str:  # JSON
    return json.dumps(content, indent=2) + "\n" if name.endswith(".json") else write_yaml(content)
