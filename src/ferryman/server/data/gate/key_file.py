"""The file of API keys: strict, versioned, and without any token in it."""

import contextlib
import difflib
import fcntl
import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ferryman.core.durable import write_whole
from ferryman.core.errors import ConfigError
from ferryman.server.data.gate.caller import Scope

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_RULE = "it begins with a letter or a digit, then come letters, digits, '.', '_' and '-', 64 signs at most"
TOKEN_PREFIX = b"fm_"  # then the key's id, "_" and 43 characters of secret
_TOKEN = re.compile(r"fm_[0-9a-f]{12}_[\w-]+")
_log = logging.getLogger("ferryman.server.gate")


class _Strict(BaseModel):
    # A mistake in the file must not put its values into a log.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class KeyEntry(_Strict):
    """Hold one key: whose it is, what it may, and the salted digest of its token."""

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    name: str
    salt: str = Field(pattern=r"^[0-9a-f]{32}$", repr=False)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    scopes: tuple[Scope, ...] = Field(min_length=1)
    models: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = Field(default=("*",), min_length=1)
    rate_per_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    burst: int | None = Field(default=None, ge=1)
    created: AwareDatetime
    expires: AwareDatetime | None = None

    @field_validator("name")
    @classmethod
    def _is_plain(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(_NAME_RULE)
        return name

    @model_validator(mode="after")
    def _burst_needs_a_rate(self) -> Self:
        if self.burst is not None and self.rate_per_s is None:
            raise ValueError("a burst needs a rate")
        return self

    def has_expired(self, now: datetime | None = None) -> bool:
        """Tell whether the key is of the past."""
        return self.expires is not None and self.expires <= (now or datetime.now(UTC))


class KeyFile(_Strict):
    """Be the whole file. Two keys may share a name: while one is rotated."""

    version: Literal[1] = 1
    keys: tuple[KeyEntry, ...] = ()

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        if len({key.id for key in self.keys}) != len(self.keys):
            raise ValueError("two keys have the same id")
        return self


def digest_of(salt: bytes, token: bytes) -> bytes:
    """Give what is stored of a token.

    One round of a fast hash is right here: a token is 256 random bits, which no one can guess at any speed. (A slow
    hash is for what people choose, and would cost each request milliseconds.)
    """
    return hashlib.sha256(salt + token).digest()


def read_keys(path: Path) -> KeyFile:
    """Read and check a key file, and warn where others may read it; raises ConfigError that quotes no value of it."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read()
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}", hint=f"ferryman keys add NAME --file {path} makes one") from None
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        _log.warning("%s can be read or written by every user of this machine: chmod 600 it", path)
    return parse_keys(text, origin=str(path))


def parse_keys(text: bytes, *, origin: str) -> KeyFile:
    """Check the text of a key file; raises ConfigError that quotes no value of it."""
    try:
        return KeyFile.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(f"{origin} is no file of keys: {mistakes(error)}", hint="ferryman keys writes it") from None


def mistakes(error: ValidationError, known: Collection[str] = ()) -> str:
    """Tell what is wrong and where, without the values; `known` are the keys that there could be."""
    details = error.errors(include_url=False, include_input=False, include_context=False)
    # A token may have been put where a field's name belongs.
    return _TOKEN.sub(
        "fm_...", "; ".join(_mistake(detail["loc"], detail["type"], detail["msg"], known) for detail in details)
    )


def _mistake(where: tuple[int | str, ...], kind: str, words: str, known: Collection[str]) -> str:
    place = ".".join(str(part) for part in where) or "the whole"
    if kind != "extra_forbidden":
        return f"{place}: {words.removeprefix('Value error, ')}"
    nearest = difflib.get_close_matches(str(where[-1]), known, n=1)
    meant = f"; did you mean '{nearest[0]}'?" if nearest else ""
    return f"'{place}' is not known{meant}" + (f" (known: {', '.join(known)})" if known else "")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the folder of a key file, so that two commands don't write one over the other's change."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{path.parent} can't be opened: {error.strerror}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def write_keys(path: Path, keys: KeyFile) -> None:
    """Write the file whole or not at all, for its owner's eyes only; raises ConfigError where that fails."""
    text = json.dumps(keys.model_dump(mode="json"), indent=2) + "\n"
    try:
        write_whole(path, text.encode(), mode=0o600)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}", hint="name another file") from None
