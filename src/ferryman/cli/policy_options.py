"""The options that say whose signatures are asked for."""

import argparse
import os
from pathlib import Path

POLICY = "FERRYMAN_POLICY"


def add_policy(group: argparse._ArgumentGroup) -> None:  # argparse has no public name for it
    """Take a policy's file and keys that are trusted beside it."""
    group.add_argument(
        "--require-signature", nargs="+", type=_key, default=[], metavar="KEY.pub",
        help="only what one of these keys signed (no signature is asked for)",
    )  # fmt: skip
    group.add_argument(
        "--policy", type=Path, default=_named(), metavar="FILE",
        help=f"TOML: keys, and what must be there: signature, bom, provenance (${POLICY})",
    )  # fmt: skip


def _key(text: str) -> Path:
    """Refuse what is no key: the option takes many words, also the one that names what is checked."""
    path = Path(text)
    if path.is_dir() or path.suffix == ".ferry" or (":" in text and not path.exists()):
        raise argparse.ArgumentTypeError(f"'{text}' is no key: what is checked is named before this option")
    return path


def _named() -> Path | None:
    return Path(os.environ[POLICY]) if os.environ.get(POLICY) else None
