"""The keys that are valid now, read again when their file changes."""

import hmac
import logging
import os
import threading
from pathlib import Path

from ferryman.core.errors import ConfigError, Unauthorized
from ferryman.server.data.gate.caller import Caller, Grant, Models
from ferryman.server.data.gate.key_file import KeyEntry, KeyFile, digest_of, read_keys
from ferryman.server.data.gate.rates import Limit

POLL_S = 1.0
_ID = slice(3, 15)
_LENGTH = 59  # of a whole token
_Print = tuple[int, int, int]
_Known = dict[bytes, tuple[bytes, bytes, Grant]]  # id -> salt, digest, what it may
_log = logging.getLogger("ferryman.server.gate")


class KeyStore:
    """Look keys up by their token. A thread of its own reads the file when it changes, and so does whoever comes
    with a key that is not known yet; a broken file keeps the old keys.

    Raises ConfigError at first where the file can't be read.
    """

    def __init__(self, path: Path, *, poll_s: float = POLL_S) -> None:
        self._path = path
        self._poll_s = poll_s
        self._print = _fingerprint(path)
        self._known = _index(read_keys(path))
        self._looking = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="keys", daemon=True)

    def start(self) -> None:
        """Begin to look for changes."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def find(self, token: bytes) -> Grant:
        """Give what the bearer of a token may; raises Unauthorized for one that is not valid, without quoting it.

        Whether it has expired is for the caller to look at.
        """
        found = self._known.get(token[_ID])
        if found is None and len(token) == _LENGTH:
            self.look()  # it may have been made a moment ago: its bearer must not be sent away until the next look
            found = self._known.get(token[_ID])
        if found is None or len(token) != _LENGTH:
            raise Unauthorized("the API key is not known here")
        salt, digest, grant = found
        if not hmac.compare_digest(digest_of(salt, token), digest):
            raise Unauthorized("the API key is not known here")
        return grant

    def look(self) -> None:
        """Read the file now if it has changed."""
        with self._looking:
            found = _fingerprint(self._path)
            if found == self._print:
                return
            self._print = found
            try:
                self._known = _index(read_keys(self._path))
            except ConfigError as error:
                _log.warning("%s; the keys of before stay valid", error)
            else:
                _log.info("read %s again: %d keys", self._path, len(self._known))

    def _watch(self) -> None:
        while not self._stopping.wait(self._poll_s):
            try:
                self.look()
            except Exception:  # noqa: BLE001 - the boundary of this thread, which must live on
                _log.exception("the key file can't be looked at; the keys of before stay valid")


def _index(file: KeyFile) -> _Known:
    return {key.id.encode(): (bytes.fromhex(key.salt), bytes.fromhex(key.sha256), _grant(key)) for key in file.keys}


def _grant(key: KeyEntry) -> Grant:
    limit = None
    if key.rate_per_s is not None:
        limit = Limit(key.rate_per_s, key.burst or max(1, round(key.rate_per_s)))
    return Grant(
        Caller(f"key:{key.name}", "key"),
        frozenset(key.scopes),
        Models(key.models),
        limit,
        key.expires.timestamp() if key.expires is not None else float("inf"),
    )


def _fingerprint(path: Path) -> _Print | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
