"""The options of a verb that asks a server: who asks, and which server is believed."""

import argparse
from pathlib import Path

from ferryman.client.access import Access
from ferryman.core.errors import UserError


def add_access(parser: argparse.ArgumentParser) -> None:
    """Take files only: a key on the command line is there for everyone to see."""
    group = parser.add_argument_group("how to come in, for a server that asks for it")
    group.add_argument("--key-file", type=Path, metavar="FILE", help="holds the API key, or another bearer token")
    group.add_argument(
        "--cacert", type=Path, metavar="FILE", help="PEM authorities that its certificate may come from (the system's)"
    )
    group.add_argument("--cert", type=Path, metavar="FILE", help="the client's own PEM certificate, for mutual TLS")
    group.add_argument("--key", type=Path, metavar="FILE", help="the PEM key of --cert (default: it lies beside it)")


def read_access(args: argparse.Namespace) -> Access:
    """Read the key, and name the others; raises UserError."""
    return Access(_read_key(args.key_file), args.cacert, args.cert, args.key)


def _read_key(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"{file} can't be read: {reason}", hint="ferryman keys add NAME > FILE makes one") from None
    if not key.isascii() or not key.isprintable() or " " in key or not key:
        raise UserError(f"{file} holds no key", hint="one line, as `ferryman keys add` prints it")
    return key
