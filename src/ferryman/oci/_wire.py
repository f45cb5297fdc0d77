"""Speak HTTP/1.1 with registries: connections, TLS, proxies, and what breaks, in words."""

import http.client
import ipaddress
import os
import socket
import ssl
import threading
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import SplitResult, unquote, urlsplit

from ferryman import __version__
from ferryman.core.errors import RegistryError
from ferryman.oci._pace import PacedResponse, TooSlow

TIMEOUT_S = 60.0
SMALL_BYTES = 256 * 1024
_BLOCK_BYTES = 256 * 1024
_KEPT = 8


class Broken(RegistryError):
    """Say that a connection broke or wouldn't come about: worth another try."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="look at the network, and run it again")


class NotTls(Broken):
    """Say that a server doesn't speak TLS."""


class Body(Protocol):
    """Be what is sent: `size` bytes, read once."""

    @property
    def size(self) -> int:
        """Give the bytes that will come."""

    def read(self, size: int = -1, /) -> bytes:
        """Give the next bytes, or none at the end."""


@dataclass
class Answer:
    """Hold a response; its connection is used again once it is read to its end."""

    status: int
    url: str
    _response: http.client.HTTPResponse
    _release: Callable[[bool], None]
    _is_released: bool = False

    def header(self, name: str) -> str:
        """Give a header's value, or ""."""
        return self._response.getheader(name) or ""

    def headers(self, name: str) -> list[str]:
        """Give every value of a header."""
        return self._response.headers.get_all(name) or []

    def read(self, size: int) -> bytes:
        """Read at most so many bytes; none at the end. Raises Broken."""
        try:
            part = self._response.read(size)
        except TooSlow as error:
            raise _too_slow(urlsplit(self.url).netloc, error) from None
        except (http.client.HTTPException, OSError) as error:
            raise Broken(f"the connection broke: {error!r}") from None
        if not part and size and self._response.length:
            raise Broken(f"the connection broke, {self._response.length} bytes before the end")
        return part

    def read_small(self, limit: int = SMALL_BYTES) -> bytes:
        """Read a short body: at most `limit` bytes and one, by which the caller knows of more."""
        payload = bytearray()
        while len(payload) <= limit and (part := self.read(limit + 1 - len(payload))):
            payload += part
        return bytes(payload)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_released:
            return
        self._is_released = True
        is_whole = kind is None and self._response.isclosed() and not self._response.will_close
        self._response.close()
        self._release(is_whole)


class Wire:
    """Hold connections to hosts, each used by one thread at a time."""

    def __init__(self, *, ca: Path | None = None, insecure: bool = False, timeout_s: float = TIMEOUT_S) -> None:
        self._context = _tls_context(ca, insecure=insecure)
        self._timeout_s = timeout_s
        self._proxies = urllib.request.getproxies()
        self._lock = threading.Lock()
        self._idle: dict[str, list[http.client.HTTPConnection]] = {}

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connection in (one for kept in idle.values() for one in kept):
            connection.close()

    def ask(self, method: str, url: str, headers: Mapping[str, str], make_body: Callable[[], Body] | None) -> Answer:
        """Send one request; raises Broken where another try may help, RegistryError where it won't."""
        parts = urlsplit(url)
        key = f"{parts.scheme}://{parts.netloc}"
        kept = self._take(key)
        if kept is not None:
            try:
                return self._send(kept, key, method, parts, headers, make_body() if make_body else None)
            except Broken:  # the server may have closed it long ago: that says nothing about a new one
                pass
        return self._send(self._connect(parts), key, method, parts, headers, make_body() if make_body else None)

    def _send(
        self,
        connection: http.client.HTTPConnection,
        key: str,
        method: str,
        parts: SplitResult,
        headers: Mapping[str, str],
        body: Body | None,
    ) -> Answer:
        target = parts.path or "/"
        target = f"{target}?{parts.query}" if parts.query else target
        sent = {
            "User-Agent": f"ferryman/{__version__}",
            **headers,
            **({"Content-Length": str(body.size)} if body else {}),
        }
        if parts.scheme == "http" and (proxy := self._proxy_of(parts)):
            target, sent = f"{key}{target}", {**sent, **_proxy_login(proxy)}
        is_cut = False
        try:
            try:
                connection.request(method, target, body=body, headers=sent)
            except (BrokenPipeError, ConnectionResetError):
                if body is None:
                    raise
                is_cut = True  # the server may have answered before it had all of the body
            response = connection.getresponse()
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError | http.client.HTTPException):
                raise _explain(error, parts) from None
            raise
        release = lambda is_whole: self._release(key, connection, is_whole=is_whole and not is_cut)  # noqa: E731
        return Answer(response.status, f"{key}{parts.path}", response, release)

    def _take(self, key: str) -> http.client.HTTPConnection | None:
        with self._lock:
            kept = self._idle.get(key)
            return kept.pop() if kept else None

    def _release(self, key: str, connection: http.client.HTTPConnection, *, is_whole: bool) -> None:
        with self._lock:
            kept = self._idle.setdefault(key, [])
            if is_whole and len(kept) < _KEPT:
                kept.append(connection)
                return
        connection.close()

    def _proxy_of(self, parts: SplitResult) -> SplitResult | None:
        host = parts.hostname or ""
        proxy = self._proxies.get(parts.scheme, "")
        if not proxy or is_loopback(host) or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
            return None
        found = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if found.scheme != "http" or not found.hostname:
            raise RegistryError(f"the proxy {found.hostname or proxy!r} is not an http:// one", hint="set https_proxy")
        return found

    def _connect(self, parts: SplitResult) -> http.client.HTTPConnection:
        proxy = self._proxy_of(parts)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host, at = (proxy.hostname or "", proxy.port or 80) if proxy else (parts.hostname or "", port)
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                host, at, timeout=self._timeout_s, context=self._context, blocksize=_BLOCK_BYTES
            )
            if proxy:
                connection.set_tunnel(parts.hostname or "", port, headers=_proxy_login(proxy))
        else:
            connection = http.client.HTTPConnection(host, at, timeout=self._timeout_s, blocksize=_BLOCK_BYTES)
        connection.response_class = PacedResponse
        return connection


def is_loopback(host: str) -> bool:
    """Tell whether a host's name is this machine by its spelling alone."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _tls_context(ca: Path | None, *, insecure: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()  # OpenSSL itself looks at SSL_CERT_FILE and SSL_CERT_DIR
    if named := os.environ.get("SSL_CERT_FILE"):
        _load(context, Path(named))  # it says nothing where that file is missing
    if ca is not None:
        _load(context, ca)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load(context: ssl.SSLContext, file: Path) -> None:
    try:
        context.load_verify_locations(file)
    except (OSError, ssl.SSLError) as error:
        raise RegistryError(
            f"{file} holds no certificates: {error.strerror or error}", hint="name a PEM file"
        ) from None


def _proxy_login(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + b64encode(login.encode()).decode()}


def _explain(error: Exception, parts: SplitResult) -> Exception:
    host = parts.netloc.rpartition("@")[2]
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "give its authority's certificate with --ca FILE or SSL_CERT_FILE"
        return RegistryError(f"the certificate of {host} is not trusted: {error.verify_message}", hint=hint)
    if isinstance(error, ssl.SSLError) and error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return NotTls(f"{host} does not speak TLS")
    if isinstance(error, socket.gaierror):
        return RegistryError(
            f"no host is called {parts.hostname}: {error.strerror}", hint="look at the name, and at DNS"
        )
    if isinstance(error, TimeoutError):
        return _too_slow(host, error) if isinstance(error, TooSlow) else Broken(f"{host} gives no answer in time")
    if isinstance(error, ConnectionRefusedError):
        return Broken(f"nothing listens at {host}")
    return Broken(f"the connection to {host} broke: {error}")


def _too_slow(host: str, error: TooSlow) -> RegistryError:
    return RegistryError(f"{host} sends next to nothing: {error}", hint="try again later: it goes on from here")
