"""Certificates: from files to what new connections are met with, again whenever the files change."""

import asyncio
import hashlib
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from ferryman.core.errors import ConfigError

_WATCH_S = 2.0
_HANDSHAKE_TURNS = 10
_ANOTHER_KEY = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")  # OpenSSL's words
_WARN_S = 14 * 24 * 3600.0

_log = logging.getLogger("ferryman.server")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Name the PEM files of a server's certificate (with its chain) and key.

    With `client_ca`, only clients with a certificate of these authorities are let in.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def fingerprint(self) -> bytes:
        """Give the digest of all the files; raises ConfigError where one can't be read."""
        digest = hashlib.sha256()
        for path in self._all():
            try:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
            except OSError as error:
                raise ConfigError(f"can't read {path}: {error.strerror or error}") from None
        return digest.digest()

    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Give what changes, at little cost, when a file is written or replaced."""
        stamps = []
        for path in self._all():
            try:
                status = path.stat()
            except OSError:
                stamps.append((0, 0, 0))
            else:
                stamps.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(stamps)

    def _all(self) -> tuple[Path, ...]:
        return (self.certificate, self.key, *([self.client_ca] if self.client_ca else ()))


class Certificate:
    """Hold the context for new connections, made from files that may change.

    Raises ConfigError where they don't work now. Later a change that doesn't work is logged, and the old one stays.
    """

    def __init__(self, files: TlsFiles, *, http2: bool) -> None:
        self._files = files
        # Browsers and curl offer both, and mean HTTP: over h2 we speak gRPC alone, whose clients offer nothing else.
        self._protocols = ["http/1.1", "h2"] if http2 else ["http/1.1"]
        self._stamp = files.stamp()
        self._fingerprint = b""
        self.context, self._expires_at = self._load()

    @property
    def expires_s(self) -> float:
        """Give the seconds until the certificate expires; negative when it has."""
        return self._expires_at - time.time()

    def reload(self) -> bool:
        """Load the files if they have changed; gives whether `context` is a new one."""
        before = self._fingerprint
        try:
            if self._files.fingerprint() == before:
                return False
            self.context, self._expires_at = self._load()
        except ConfigError as error:
            _log.error("the TLS files changed and don't work; the old certificate stays: %s", error)
            return False
        _log.info("new TLS certificate, good for %.1f days", self.expires_s / 86400)
        return True

    async def watch(self, use: Callable[[ssl.SSLContext], Awaitable[None]], *, every_s: float = _WATCH_S) -> None:
        """Hand each new context to `use`; runs until it is cancelled."""
        looked = self._stamp
        while True:
            await asyncio.sleep(every_s)
            before, looked = looked, self._files.stamp()
            if looked == self._stamp or looked != before:
                continue  # certificate and key are written one after the other: not before they rest
            self._stamp = looked
            if self.reload():
                await use(self.context)

    def _load(self) -> tuple[ssl.SSLContext, float]:
        fingerprint = self._files.fingerprint()
        try:
            context = self._context()
            expires_at = _try_out(self._files)
            if self._files.client_ca is not None:
                context.load_verify_locations(self._files.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(
                f"{self._files.certificate} can't serve with {self._files.key}: {_reason(error)}",
                hint="they must be PEM, belong together, and not be expired",
            ) from None
        if self._files.fingerprint() != fingerprint:
            raise ConfigError(f"{self._files.certificate} or {self._files.key} is being written")
        self._fingerprint = fingerprint
        if expires_at - time.time() < _WARN_S:
            _log.warning("%s expires in %.1f days", self._files.certificate, (expires_at - time.time()) / 86400)
        return context, expires_at

    def _context(self) -> ssl.SSLContext:
        context = _server_context(self._files)
        context.set_alpn_protocols(self._protocols)
        return context


def _server_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A key under a passphrase would ask on the terminal, and wait there.
    context.load_cert_chain(files.certificate, files.key, password=lambda: b"")
    return context


def _try_out(files: TlsFiles) -> float:
    """Shake hands with it in memory, as a client that trusts it; gives when it expires.

    Raises ssl.SSLError where a client would see an expired certificate, or a key that doesn't fit.
    """
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client_context.load_verify_locations(files.certificate)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = _server_context(files).wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_HANDSHAKE_TURNS):
        if all([_shake(client), _shake(server)]):
            break
    certificate = client.getpeercert()
    if not certificate:
        raise ssl.SSLError("the handshake doesn't end")
    return ssl.cert_time_to_seconds(str(certificate["notAfter"]))


def _shake(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    reason: str = getattr(error, "reason", None) or error.strerror or str(error)
    return "the certificate and the key don't belong together" if reason in _ANOTHER_KEY else reason
