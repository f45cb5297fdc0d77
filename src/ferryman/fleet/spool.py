"""Keep reports on the disk until the collector has them: in order, bounded, numbered so that no loss is unseen."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ferryman.core.errors import UserError
from ferryman.fleet.durable import explain, write_durably

_SUFFIX, _SENT = ".json", ".sent"
_DIGITS = 12


class Spool:
    """Hold records in a folder, a file each, named by number. Over `limit_bytes` the oldest go.

    Numbers have no gaps: what is missing at the collector was dropped here, and it counts them. Not for two processes.
    """

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self._folder, self._limit_bytes = folder, limit_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain(error, folder) from error
        self.lost = 0
        """Records that a full disk, or the collector, did not take, since this process began."""

    def add(self, record: Mapping[str, Any]) -> None:  # JSON
        """Keep a record; where the disk takes no more it is counted, and nothing else stops for it."""
        payload = json.dumps({**record, "number": self._next()}, separators=(",", ":")).encode()
        self._make_room(len(payload))
        try:
            write_durably(self._folder / f"{self._next():0{_DIGITS}d}{_SUFFIX}", payload)
        except UserError:
            self.lost += 1

    def oldest(self, count: int) -> list[tuple[int, bytes]]:
        """Give the oldest records that nobody has yet, with their numbers."""
        found = []
        for path in self._waiting()[:count]:
            with contextlib.suppress(OSError):
                found.append((int(path.stem), path.read_bytes()))
        return found

    def sent(self, number: int) -> None:
        """Forget the records up to a number; its own name stays, so that numbers go on after a restart."""
        for path in self._waiting():
            if int(path.stem) < number:
                path.unlink(missing_ok=True)
            elif int(path.stem) == number:
                os.replace(path, path.with_suffix(_SENT))
        for path in self._named(_SENT)[:-1]:
            path.unlink(missing_ok=True)

    @property
    def waiting(self) -> int:
        """Give how many records nobody has yet."""
        return len(self._waiting())

    def _next(self) -> int:
        known = [*self._waiting()[-1:], *self._named(_SENT)[-1:]]
        return max((int(path.stem) for path in known), default=0) + 1

    def _make_room(self, size: int) -> None:
        waiting = self._waiting()
        total = size + sum(path.stat().st_size for path in waiting)
        for path in waiting[:-1]:
            if total <= self._limit_bytes:
                return
            total -= path.stat().st_size
            path.unlink(missing_ok=True)

    def _waiting(self) -> list[Path]:
        return self._named(_SUFFIX)

    def _named(self, suffix: str) -> list[Path]:
        return sorted(path for path in self._folder.iterdir() if path.suffix == suffix and path.stem.isdecimal())
