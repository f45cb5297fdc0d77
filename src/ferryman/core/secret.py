"""Secrets, read where they are named: `env:VARIABLE` or `file:/path`. None of them is ever part of a message."""

from collections.abc import Callable
from pathlib import Path

from ferryman.core.errors import UserError

SECRET_SOURCES = ("env:", "file:")
_LONGEST = 65536


def read_secret(named: str, environment: Callable[[str], str | None]) -> str:
    """Give what a name stands for, read now, as files may be replaced; raises UserError that names the place."""
    source, _, place = named.partition(":")
    if source == "env":
        value = environment(place) or ""
    else:
        try:
            with Path(place).open(encoding="utf-8") as stream:
                value = stream.read(_LONGEST)
        except (OSError, UnicodeDecodeError) as error:
            words = type(error).__name__ if isinstance(error, UnicodeDecodeError) else error.strerror
            raise UserError(f"a secret can't be read: {place}: {words}", hint="name a file of text") from None
    value = value.strip()  # secrets that were put into a file or a variable often end with a new line
    if not value:
        missing = f"{place} is not set" if source == "env" else f"{place} is empty"
        raise UserError(f"a secret is missing: {missing}", hint=f"set {place}" if source == "env" else f"fill {place}")
    if not value.isprintable():
        raise UserError(f"what {named} holds has signs in it that no header can carry", hint="write it anew")
    return value
