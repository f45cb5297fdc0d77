"""The public keys of who issues tokens, from a file or an https address, kept fresh by a thread of their own."""

import json
import logging
import ssl
import threading
import time
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

from ferryman.core.errors import ConfigError

_FAMILIES = {
    "RSA": frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    "EC": frozenset({"ES256", "ES384", "ES512", "ES256K"}),
    "OKP": frozenset({"EdDSA"}),
}
_LARGEST_BYTES = 1 << 20
_TIMEOUT_S = 5.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_log = logging.getLogger("ferryman.server.gate")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Hold a key and the algorithms that it may check: those of its kind, so that none can be swapped for another."""

    key: Any  # a public key of `cryptography`, whose kinds have no common type
    algorithms: frozenset[str]


@dataclass(frozen=True, slots=True)
class JwksSettings:
    """Say where the keys are (a path or an https address) and how often to look.

    They are read every `refresh_s`, and at once for a key that is unknown, but not again within `least_s`. `ca_file`
    names the authority of the address, where it is not a public one.
    """

    location: str
    refresh_s: float = 300.0
    least_s: float = 10.0
    ca_file: Path | None = None


class Jwks:
    """Find keys by their id. Keys that were read once stay while the source fails.

    Raises ConfigError at first for an address that is not safe and for a file that can't be read.
    """

    def __init__(self, settings: JwksSettings) -> None:
        self._settings = settings
        self._is_remote = "://" in settings.location
        self._opener = _opener(settings) if self._is_remote else None
        self.keys: dict[str, PublicKey] = {}
        self.generation = 0  # grows whenever the keys changed
        self._read_s = float("-inf")
        self._is_wanted = threading.Event()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="jwks", daemon=True)
        if not self._is_remote:
            self._take(self._read())
            self._read_s = time.monotonic()

    def start(self) -> None:
        """Begin to read."""
        self._is_wanted.set()
        self._thread.start()

    def close(self) -> None:
        """Read no more; does not wait for an answer that is under way."""
        self._is_closed = True
        self._is_wanted.set()

    def find(self, key_id: str) -> PublicKey | None:
        """Give a key; the only one where a token names none."""
        if not key_id and len(self.keys) == 1:
            return next(iter(self.keys.values()))
        return self.keys.get(key_id)

    def want(self) -> bool:
        """Ask for the keys anew, for one that is unknown; tell whether that is worth waiting for."""
        if self._is_wanted.is_set():
            return True
        if time.monotonic() - self._read_s < self._settings.least_s:
            return False
        self._is_wanted.set()
        return True

    def _run(self) -> None:
        while True:
            self._is_wanted.wait(self._settings.refresh_s if self.keys else self._settings.least_s)
            if self._is_closed:
                return
            try:
                self._take(self._read())
            except ConfigError as error:
                _log.warning("%s; %d keys of before stay valid", error, len(self.keys))
            except Exception:  # noqa: BLE001 - the boundary of this thread, which must live on
                _log.exception("the keys of tokens can't be read; %d of before stay valid", len(self.keys))
            self._read_s = time.monotonic()
            self._is_wanted.clear()

    def _take(self, text: bytes) -> None:
        keys = parse_jwks(text, origin=self._settings.location)
        if {name: _shown(key) for name, key in keys.items()} != {name: _shown(key) for name, key in self.keys.items()}:
            self.keys = keys
            self.generation += 1

    def _read(self) -> bytes:
        location = self._settings.location
        try:
            if self._opener is None:
                return Path(location).read_bytes()
            with self._opener.open(location, timeout=_TIMEOUT_S) as answer:
                text: bytes = answer.read(_LARGEST_BYTES + 1)
        except (OSError, URLError, HTTPException, ValueError) as error:
            raise ConfigError(f"the keys of tokens at {location} can't be read: {error}") from None
        if len(text) > _LARGEST_BYTES:
            raise ConfigError(f"the keys of tokens at {location} are over {_LARGEST_BYTES} bytes")
        return text


def parse_jwks(text: bytes, *, origin: str) -> dict[str, PublicKey]:
    """Read public keys that sign; others are left out. Raises ConfigError for what holds none."""
    import jwt  # an extra

    try:
        listed = json.loads(text)["keys"]
        entries = [entry for entry in listed if entry.get("kty") in _FAMILIES and entry.get("use", "sig") == "sig"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{origin} is no JSON Web Key Set") from None
    keys: dict[str, PublicKey] = {}
    for entry in entries:
        named, family = entry.get("alg"), _FAMILIES[entry["kty"]]
        try:
            key = jwt.PyJWK(entry).key
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            _log.warning("a key of %s can't be used: %s", origin, type(error).__name__)
            continue
        keys[str(entry.get("kid", ""))] = PublicKey(key, family & {named} if named else family)
    if not keys:
        raise ConfigError(f"{origin} holds no public key that signs")
    return keys


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        """Follow none: the address is who we trust, and it could lead to one without TLS."""


def _opener(settings: JwksSettings) -> urllib.request.OpenerDirector:
    address = urlsplit(settings.location)
    if address.scheme != "https" and not (address.scheme == "http" and address.hostname in _LOOPBACK):
        raise ConfigError(f"the keys of tokens at {settings.location} could be changed on the way", hint="use https")
    context = ssl.create_default_context(cafile=settings.ca_file)
    return urllib.request.build_opener(_NoRedirect(), urllib.request.HTTPSHandler(context=context))


def _shown(key: PublicKey) -> tuple[bytes, frozenset[str]]:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), key.algorithms
