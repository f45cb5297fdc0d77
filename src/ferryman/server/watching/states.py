"""What the watch remembers of each version over a restart: one file each, replaced as a whole."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from ferryman.core.durable import write_whole

_log = logging.getLogger("ferryman.watch")


class States:
    """Keep JSON by model and version; a file that is damaged, or of another bundle, counts as none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, key: tuple[str, str], digest: str) -> dict[str, Any] | None:  # JSON
        """Give what was kept for this very bundle, or None."""
        path = self._path(key)
        try:
            kept = json.loads(path.read_bytes())
            return kept["state"] if kept["digest"] == digest else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s can't be read (%s): what was known is learnt anew", path, error)
            return None

    def write(self, key: tuple[str, str], digest: str, state: dict[str, Any]) -> None:  # JSON
        """Keep a state; a disk that is full keeps the one before."""
        path = self._path(key)
        kept = {"model": key[0], "version": key[1], "digest": digest, "state": state}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(kept).encode())
        except OSError as error:
            _log.warning("%s can't be written: %s", path, error)

    def _path(self, key: tuple[str, str]) -> Path:
        return self._folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}.json"
