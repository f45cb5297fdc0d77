"""Secrets, read where they are named: `env:VARIABLE` or `file:/path`. None of them is ever part of a message."""

from collections.abc import Mapping
from pathlib import Path

from ferryman.core.receivers import SECRET_SOURCES
from ferryman.monitor.notify.receiver import Undelivered

_LONGEST = 65536


def read_secret(named: str, environment: Mapping[str, str]) -> str:
    """Give what a name stands for, read now, as files may be replaced; raises Undelivered that names the place."""
    source, _, place = named.partition(":")
    if source == "env":
        value = environment.get(place, "").strip()
        if not value:
            raise Undelivered(f"the environment variable {place} is not set")
    else:
        try:
            with Path(place).open(encoding="utf-8") as stream:
                value = stream.read(_LONGEST).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Undelivered(f"the secret's file {place} can't be read: {type(error).__name__}") from None
        if not value:
            raise Undelivered(f"the secret's file {place} is empty")
    if not value.isprintable():
        raise Undelivered(f"what {named} holds has signs in it that no header can carry")
    return value


def read_address(named: str, environment: Mapping[str, str]) -> str:
    """Give an address that is written down, or named as a secret is."""
    return read_secret(named, environment) if named.startswith(SECRET_SOURCES) else named
