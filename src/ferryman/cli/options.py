"""Options that several verbs share, and checks of their values."""

import argparse
from datetime import timedelta
from pathlib import Path

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_S = 100 * 365 * 86400


def add_json(parser: argparse.ArgumentParser) -> None:
    """Let the verb answer in JSON."""
    parser.add_argument("--json", action="store_true", help="answer in JSON on stdout")


def add_project(parser: argparse.ArgumentParser) -> None:
    """Take a project: a folder with a ferryman.toml, or the file itself."""
    parser.add_argument(
        "project", nargs="?", type=Path, default=Path("."), metavar="PROJECT",
        help="ferryman.toml or its folder (default: this folder)",
    )  # fmt: skip


def port_number(text: str) -> int:
    """Read a TCP port; 0 asks for any free one."""
    number = count(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port: 0 to 65535")
    return number


def count(text: str) -> int:
    """Read a whole number that is not negative."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of 0 or more")
    return int(text)


def at_least_one(text: str) -> int:
    """Read a whole number over 0."""
    number = count(text)
    if number == 0:
        raise argparse.ArgumentTypeError("0 is too small; without the option it is as --help says")
    return number


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    number = _number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return number


def positive(text: str) -> float:
    """Read a finite number over 0."""
    number = _number(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not over 0")
    return number


def duration(text: str) -> timedelta:
    """Read a time such as 90s, 15m, 1h or 30d."""
    number, unit = text[:-1], text[-1:]
    if not number.isascii() or not number.isdigit() or unit not in _UNITS_S:
        raise argparse.ArgumentTypeError(f"'{text}' is no time: a whole number and s, m, h or d, as 90s, 15m, 1h, 30d")
    if int(number) * _UNITS_S[unit] > _LONGEST_S:
        raise argparse.ArgumentTypeError(f"'{text}' is more than a century")
    return timedelta(seconds=int(number) * _UNITS_S[unit])


def seconds_or_duration(text: str) -> timedelta:
    """Read a time such as 90s or 15m, or a plain number of seconds, as ferryman.toml has it."""
    return duration(f"{text}s" if text.isascii() and text.isdigit() else text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no number") from None
