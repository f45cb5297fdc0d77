"""The option that names a file with an API key: a key on the command line is there for everyone to see."""

import argparse
from pathlib import Path

from ferryman.core.errors import UserError


def add_key_file(parser: argparse.ArgumentParser) -> None:
    """Take the file of a key."""
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="holds the API key, for a server that wants one")


def read_key(file: Path | None) -> str:
    """Give the API key in a file, nothing without one; raises UserError."""
    try:
        return file.read_text(encoding="utf-8").strip() if file else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} can't be read: {error}", hint="ferryman keys makes keys") from None
