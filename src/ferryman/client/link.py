"""One HTTP connection to a server, and what to say where it can't be asked."""

import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from ferryman.client.access import Access
from ferryman.core.errors import ConfigError, FerrymanError, NotReady

_PROBE_S = 2.0
_OTHER_NAME = (62, 64)  # OpenSSL's numbers: the name, or the address, isn't in the certificate
_EXPIRED, _NOT_YET = 10, 9
_NO_TLS = ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL")


@dataclass(frozen=True, slots=True)
class Reply:
    """Hold one HTTP answer; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    payload: bytes


def read_url(url: str, hint: str, what: str = "a server's address") -> SplitResult:
    """Take a server's address apart, http where it says nothing else; raises ConfigError with this hint."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        is_whole = is_whole and url.isprintable() and " " not in url
    except ValueError:  # the port
        is_whole = False
    if not is_whole:
        raise ConfigError(f"{url!r} is not {what}", hint=hint)
    return parts


def way_in(status: int, *, has_key: bool) -> str:
    """Tell how to come in where a server says 401, or 403."""
    if status == http.client.FORBIDDEN:
        return "ask as another caller (--key-file, --cert), or have this one's rights changed"
    return "another key: this one is wrong, or has ended" if has_key else "it wants a key: --key-file FILE"


class Link:
    """Ask one server over one connection, opened where it isn't; `timeout_s` bounds each wait.

    Raises ConfigError for what can't work as it is asked for, and NotReady where there is no answer now.
    """

    def __init__(self, parts: SplitResult, *, timeout_s: float, access: Access) -> None:
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._parts, self._access, self._timeout_s = parts, access, timeout_s
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            self._connection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=timeout_s, context=access.context()
            )
        elif access.has_files:
            raise ConfigError(
                f"{self.url} is asked without TLS, which has no certificates", hint=f"ask {self._as('https')}"
            )
        else:
            self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)

    def close(self) -> None:
        """Close the connection; the next question opens it again."""
        self._connection.close()

    def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send one request, and give what comes back, whatever its status."""
        is_reused = self._connection.sock is not None
        try:
            return self._exchange(method, path, body, {**headers, **self._access.headers})
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not is_reused or not _is_hung_up(error):
                raise self._explain(error) from None
        # The server had closed an idle connection: a fresh one tells whether it still answers.
        return self.ask(method, path, body, headers)

    def _exchange(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        try:
            self._connection.request(method, self._parts.path.rstrip("/") + path, body or None, dict(headers))
        except BrokenPipeError:
            # It may have answered (413) before it had read everything: then that answer is there to read.
            if self._connection.sock is None:
                raise
        response = self._connection.getresponse()
        payload = response.read()
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, payload)

    def _explain(self, error: Exception) -> FerrymanError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._distrusted(error)
        if _is_hung_up(error):
            return self._hung_up()
        if isinstance(error, ssl.SSLError):
            return self._refused_by_tls(error.reason or str(error))
        why, hint = self._unreachable(error)
        return NotReady(why, hint=hint)

    def _unreachable(self, error: Exception) -> tuple[str, str]:
        if isinstance(error, TimeoutError):
            return f"{self.url} did not answer within {self._timeout_s:g} s", "it may be busy; or is it another server?"
        if isinstance(error, socket.gaierror):
            return f"no host is called '{self._parts.hostname}': {error.strerror}", "check the name in the address"
        if isinstance(error, ConnectionRefusedError):
            return f"nobody listens at {self.url}", "is the server running? ferryman serve BUNDLE"
        reason = getattr(error, "strerror", None) or str(error) or repr(error)
        return f"{self.url} can't be asked: {reason}", "is it an HTTP server?"

    def _distrusted(self, error: ssl.SSLCertVerificationError) -> ConfigError:
        why = f"the certificate of {self.url} is not believed: {error.verify_message}"
        if error.verify_code in _OTHER_NAME:
            return ConfigError(why, hint="ask it by a name that stands in its certificate")
        if error.verify_code in (_EXPIRED, _NOT_YET):
            return ConfigError(why, hint="the server needs a new one (or this machine's clock is wrong)")
        return ConfigError(why, hint="--cacert FILE names the authority (PEM) that it comes from")

    def _hung_up(self) -> FerrymanError:
        why = f"{self.url} closed the connection"
        if self._parts.scheme == "http":
            if self._speaks_tls():
                return ConfigError(f"{self.url} is asked without TLS, and wants it", hint=f"ask {self._as('https')}")
            return NotReady(why, hint="it may be stopping; ask again")
        if self._access.cert_file is None:
            return NotReady(why, hint="it may want a client certificate: --cert FILE --key FILE")
        return NotReady(why, hint=f"it may not know the authority that {self._access.cert_file} comes from")

    def _refused_by_tls(self, reason: str) -> ConfigError:
        if reason in _NO_TLS:
            return ConfigError(f"{self.url} is asked with TLS, and speaks none", hint=f"ask {self._as('http')}")
        words = reason.lower().replace("_", " ")
        if "CERTIFICATE_REQUIRED" in reason:
            return ConfigError(f"{self.url} wants a client certificate", hint="--cert FILE --key FILE")
        if "ALERT" in reason and self._access.cert_file is not None:
            return ConfigError(f"{self.url} refuses the certificate {self._access.cert_file}: {words}", hint="--cert")
        return ConfigError(f"{self.url} can't be asked with TLS: {words}", hint="is it an HTTPS server?")

    def _as(self, scheme: str) -> str:
        return self._parts._replace(scheme=scheme).geturl()

    def _speaks_tls(self) -> bool:
        """Tell whether what hung up on plain HTTP would shake hands; nothing is sent, so nobody need be believed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        where = self._parts.hostname or "", self._parts.port or http.client.HTTP_PORT
        try:
            with socket.create_connection(where, _PROBE_S) as plain, context.wrap_socket(plain):
                return True
        except OSError:
            return False


def _is_hung_up(error: Exception) -> bool:
    return isinstance(error, ConnectionResetError | BrokenPipeError | ssl.SSLEOFError | ssl.SSLZeroReturnError)
