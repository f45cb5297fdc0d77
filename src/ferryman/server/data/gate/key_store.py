"""The keys that are valid now, read again when their file changes."""

import hmac
from pathlib import Path

from ferryman.core.errors import Unauthorized
from ferryman.server.data.gate.caller import Caller, Grant, Models
from ferryman.server.data.gate.follow import POLL_S, Followed
from ferryman.server.data.gate.key_file import KeyEntry, KeyFile, digest_of, read_keys
from ferryman.server.data.gate.rates import Limit

_ID = slice(3, 15)
_LENGTH = 59  # of a whole token
_Known = dict[bytes, tuple[bytes, bytes, Grant]]  # id -> salt, digest, what it may


class KeyStore:
    """Look keys up by their token. A thread of its own reads the file when it changes, and so does whoever comes
    with a key that is not known yet; a broken file keeps the old keys.

    Raises ConfigError at first where the file can't be read.
    """

    def __init__(self, path: Path, *, poll_s: float = POLL_S) -> None:
        self._known: _Known = {}
        self._file = Followed(path, self._take, poll_s=poll_s)

    def start(self) -> None:
        """Begin to look for changes."""
        self._file.start()

    def close(self) -> None:
        """Look no more."""
        self._file.close()

    def find(self, token: bytes) -> Grant:
        """Give what the bearer of a token may; raises Unauthorized for one that is not valid, without quoting it.

        Whether it has expired is for the caller to look at.
        """
        found = self._known.get(token[_ID])
        if found is None and len(token) == _LENGTH:
            self._file.glance()  # it may have been made a moment ago: its bearer is not sent away until the next look
            found = self._known.get(token[_ID])
        if found is None or len(token) != _LENGTH:
            raise Unauthorized("the API key is not known here")
        salt, digest, grant = found
        if not hmac.compare_digest(digest_of(salt, token), digest):
            raise Unauthorized("the API key is not known here")
        return grant

    def look(self) -> None:
        """Read the file now if it has changed."""
        self._file.look()

    def _take(self, path: Path) -> str:
        self._known = _index(read_keys(path))
        return f"{len(self._known)} keys"


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
