"""The options of `ferryman fleet`: what to do, and where."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from ferryman.cli.options import add_json, port_number


@dataclass(frozen=True, slots=True)
class Move:
    """Say what a move does, what it takes, and whose it is."""

    does: str
    takes: str = ""
    is_on_the_box: bool = False


MOVES = {
    "release": Move("publish a bundle, for the first stage", "BUNDLE"),
    "status": Move("show how the release stands with the boxes"),
    "advance": Move("let it go on to its next stage, or halt it where boxes fail"),
    "halt": Move("let no further box begin with it"),
    "rollback": Move("have every box run the bundle from before"),
    "token": Move("give the token that a box shows the collector", "BOX"),
    "collect": Move("listen for the reports of boxes"),
    "agent": Move("follow releases, on a box", is_on_the_box=True),
    "install": Move("put a bundle's file or folder into service, on a box", "BUNDLE", is_on_the_box=True),
    "boot": Move("count a start of the server, on a box; after three bad ones go back", is_on_the_box=True),
    "slots": Move("show what the slots of a box hold", is_on_the_box=True),
}


def add_fleet_options(parser: argparse.ArgumentParser) -> None:
    """Take the move, what it is about, and the settings."""
    moves = ", ".join(f"{name} ({move.does})" for name, move in MOVES.items())
    parser.add_argument("move", choices=MOVES, metavar="MOVE", help=moves)
    parser.add_argument("what", nargs="?", default="", metavar="WHAT", help="release: a bundle in a registry, "
                        "HOST/NAME:TAG; install: a bundle's file or folder; token: a box's name")  # fmt: skip
    parser.add_argument(
        "--fleet", type=Path, default=Path("fleet.toml"), metavar="FILE", help="the operator's settings (fleet.toml)"
    )
    parser.add_argument(
        "--box", type=Path, default=Path("/etc/ferryman/box.toml"), metavar="FILE",
        help="a box's settings (/etc/ferryman/box.toml)",
    )  # fmt: skip
    parser.add_argument("--note", default="", metavar="TEXT", help="with release and rollback: why, for people")
    parser.add_argument("--once", action="store_true", help="with agent: look and report once")
    parser.add_argument("--watch", action="store_true", help="with advance: until it is complete or halted")
    parser.add_argument("--dry-run", action="store_true", help="tell what would be published, and publish nothing")
    _add_collector(parser.add_argument_group("collect"))
    add_json(parser)


def _add_collector(group: argparse._ArgumentGroup) -> None:  # argparse has no public name for it
    group.add_argument("--folder", type=Path, default=Path("reports"), metavar="DIR", help="its database (reports)")
    group.add_argument("--secret", type=Path, default=Path("fleet.secret"), metavar="FILE",
                       help="what tokens are made of; made where it isn't there (fleet.secret)")  # fmt: skip
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    group.add_argument("--port", type=port_number, default=8443, help="port to listen on; 0: any free one (8443)")
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="PEM certificate; plain HTTP without one")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its PEM key")
