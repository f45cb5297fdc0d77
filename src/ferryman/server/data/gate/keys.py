"""Make, retire and replace API keys: pure changes of a key file; tokens are shown once and never kept."""

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from ferryman.core.errors import ConfigError
from ferryman.server.data.gate.caller import Scope
from ferryman.server.data.gate.key_file import TOKEN_PREFIX, KeyEntry, KeyFile, digest_of, mistakes

_ID_BYTES, _SALT_BYTES, _SECRET_BYTES = 6, 16, 32


@dataclass(frozen=True, slots=True)
class Wish:
    """Say what a new key may do; no `expires_in` is no end."""

    name: str
    scopes: tuple[Scope, ...] = ("infer", "read")
    models: tuple[str, ...] = ("*",)
    rate_per_s: float | None = None
    burst: int | None = None
    expires_in: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """Hold a changed file, the new key, and its token: the only time that anybody sees it."""

    file: KeyFile
    entry: KeyEntry
    token: str = field(repr=False)


def add(file: KeyFile, wish: Wish, *, now: datetime | None = None) -> Made:
    """Make a key; raises ConfigError where its name is taken or what it wishes is none."""
    now = now or datetime.now(UTC)
    if any(key.name == wish.name and not key.has_expired(now) for key in file.keys):
        raise ConfigError(f"there is a key named '{wish.name}' already", hint="ferryman keys rotate replaces its token")
    expires = now + wish.expires_in if wish.expires_in is not None else None
    try:
        blank = KeyEntry(
            id="0" * (2 * _ID_BYTES),
            name=wish.name,
            salt="0" * (2 * _SALT_BYTES),
            sha256="0" * 64,
            scopes=wish.scopes,
            models=wish.models,
            rate_per_s=wish.rate_per_s,
            burst=wish.burst,
            created=now,
            expires=expires,
        )
    except ValidationError as error:
        raise ConfigError(f"this can't be a key: {mistakes(error)}") from None
    entry, token = _made(blank)
    return Made(_with(file, (*file.keys, entry)), entry, token)


def revoke(file: KeyFile, which: str) -> tuple[KeyFile, tuple[KeyEntry, ...]]:
    """Take away the keys of a name, or the one of an id; raises ConfigError where there is none."""
    gone = _find(file, which)
    return _with(file, tuple(key for key in file.keys if key not in gone)), gone


def rotate(file: KeyFile, which: str, *, grace: timedelta, now: datetime | None = None) -> Made:
    """Make a new token for a key; the old one is good for `grace` more, or until it would have ended anyway.

    Raises ConfigError where there is no such key.
    """
    now = now or datetime.now(UTC)
    old = max(_find(file, which), key=lambda key: key.created)
    if old.has_expired(now):
        raise ConfigError(f"the key '{old.name}' has expired", hint="ferryman keys add makes a new one")
    end = now + grace
    kept = tuple(
        key.model_copy(update={"expires": min(end, key.expires or end)}) if key.name == old.name else key
        for key in file.keys
        if key.name != old.name or not key.has_expired(now)
    )
    entry, token = _made(old.model_copy(update={"created": now}))
    return Made(_with(file, (*kept, entry)), entry, token)


def _made(entry: KeyEntry) -> tuple[KeyEntry, str]:
    key_id, salt = secrets.token_hex(_ID_BYTES), secrets.token_bytes(_SALT_BYTES)
    token = f"{TOKEN_PREFIX.decode()}{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    digest = digest_of(salt, token.encode()).hex()
    return entry.model_copy(update={"id": key_id, "salt": salt.hex(), "sha256": digest}), token


def _find(file: KeyFile, which: str) -> tuple[KeyEntry, ...]:
    found = tuple(key for key in file.keys if which in (key.name, key.id))
    if not found:
        raise ConfigError(f"there is no key '{which}'", hint="ferryman keys list shows names and ids")
    return found


def _with(file: KeyFile, keys: tuple[KeyEntry, ...]) -> KeyFile:
    return file.model_copy(update={"keys": keys})
