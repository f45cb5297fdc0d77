"""`ferryman monitor`: what a model is watched by."""

import argparse
import json
from pathlib import Path
from typing import Any

from ferryman import api
from ferryman.cli.options import add_json
from ferryman.cli.output import write_file, write_json, write_text
from ferryman.cli.talk import say
from ferryman.core.deployment import Deployment, load_project
from ferryman.core.errors import ConfigError
from ferryman.monitor.prometheus.files import files_of
from ferryman.targets.yaml import write_yaml

EXAMPLE = "ferryman monitor rules dist/street -o monitoring && promtool test rules monitoring/*.tests.yml"
_ACTIONS = ("rules",)
_DO = "rules (write rules and tests of them for Prometheus, and a dashboard for Grafana, from the contract)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what to do, of which bundle or project."""
    parser.add_argument("action", choices=_ACTIONS, metavar="ACTION", help=_DO)
    parser.add_argument(
        "what", nargs="?", type=Path, default=Path("."), metavar="BUNDLE",
        help="a bundle, a project's folder or its ferryman.toml (default: this folder)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("monitoring"), metavar="DIR", help="write files there (monitoring)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write each file, and name it."""
    deployment = _deployment(args.what)
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
