"""Remember choices over a restart: which version is active, how far a rollout has come."""

import asyncio
import errno
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

from ferryman.core.durable import write_whole
from ferryman.core.errors import ConfigError, NotReady
from ferryman.core.scratch import try_lock

_log = logging.getLogger("ferryman.server")
SCHEMA = 1
FILE_NAME = "state.json"
_PROBE = f"{FILE_NAME}.probe"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Json = Any  # whatever json.dumps takes


class StateNotWritten(NotReady):
    """Say that a choice could not be remembered now: what was remembered before still is."""


class State:
    """Keep JSON values by key in one file of a folder, each change whole and on the disk before `put` returns.

    Reading it (here) blocks for a moment; nothing is written, and no folder made, before the first change. From then on
    the folder is this server's alone. Raises ConfigError for a file of a newer Ferryman;
    a damaged one is kept aside, and that is logged at every start from then on.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._values = _read(self.path)
        aside = _aside(self.path)
        if not self.path.exists() and aside.exists():
            _log.error("%s is damaged: chosen versions and rollouts are not known; choose anew, then remove it", aside)
        self._changing = asyncio.Lock()
        self._writing = threading.Lock()
        self._owned: int | None = None  # descriptor of the locked folder
        self._is_closed = False

    def get(self, key: str) -> Json:
        """Give what was put there last, or None; the caller must not change it in place."""
        return self._values.get(key)

    async def put(self, key: str, value: Json) -> None:
        """Remember a value, or forget it (None); raises StateNotWritten, and then the old one stays."""
        await asyncio.shield(self._change({key: value}))

    def claim(self) -> None:
        """Take the folder now, where it was named: what can't be kept there is better said before the start.

        Raises ConfigError.
        """
        probe = self.path.with_name(_PROBE)
        try:
            self._own(probe.parent)
            probe.touch()
            probe.unlink()
        except (OSError, StateNotWritten) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(
                f"nothing can be kept in {probe.parent}: {why}", hint="name another folder: --state DIR"
            ) from None

    def close(self) -> None:
        """Let another server have the folder: what is being written is waited for, and no more is written."""
        with self._writing:
            self._is_closed = True
            if self._owned is not None:
                os.close(self._owned)
                self._owned = None

    async def _change(self, changes: dict[str, Json]) -> None:
        async with self._changing:
            values = {key: value for key, value in {**self._values, **changes}.items() if value is not None}
            payload = json.dumps({"schema": SCHEMA, "values": values}, allow_nan=False, indent=1).encode()
            await asyncio.to_thread(self._keep, payload)
            self._values = json.loads(payload)["values"]  # a copy: what the caller does with its value is its own

    def _keep(self, payload: bytes) -> None:
        with self._writing:
            if self._is_closed:
                raise StateNotWritten(f"{self.path} can't be written: this server has ended")
            self._write(payload)

    def _write(self, payload: bytes) -> None:
        folder = self.path.parent
        try:
            self._own(folder)
            write_whole(self.path, payload)
        except OSError as error:
            why = "the disk is full" if error.errno in _FULL else str(error.strerror or error)
            raise StateNotWritten(
                f"{self.path} can't be written: {why}",
                hint="what was remembered before still is; free space, or --state",
            ) from error

    def _own(self, folder: Path) -> None:
        if self._owned is not None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._owned = try_lock(folder)
        if self._owned is None:
            raise StateNotWritten(
                f"{folder} is kept by another running server", hint="give each server a folder of its own: --state DIR"
            )


def _read(path: Path) -> dict[str, Json]:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}", hint="name another folder: --state DIR") from None
    try:
        whole = json.loads(text)
        if isinstance(whole, dict) and isinstance(whole.get("schema"), int) and whole["schema"] > SCHEMA:
            raise ConfigError(
                f"{path} was written by a newer ferryman (schema {whole['schema']}; this one reads {SCHEMA})",
                hint="run the newer one, or name another folder: --state DIR",
            )
        return _checked(whole)
    except (ValueError, RecursionError) as error:
        _log.error("%s is damaged: %s", path, error)
        _set_aside(path)
        return {}


def _checked(whole: Json) -> dict[str, Json]:
    if not isinstance(whole, dict) or whole.get("schema") != SCHEMA or not isinstance(whole.get("values"), dict):
        raise ValueError(f"no object of schema {SCHEMA}")
    if unknown := sorted(set(whole) - {"schema", "values"}):
        raise ValueError(f"unknown key '{unknown[0]}'")
    values: dict[str, Json] = whole["values"]
    return values


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.corrupt")


def _set_aside(path: Path) -> None:
    try:
        os.replace(path, _aside(path))
    except OSError as error:
        raise ConfigError(
            f"{path} is damaged and can't be moved aside: {error.strerror}", hint="remove it by hand"
        ) from None
