"""Which pages of other origins may ask this server: none, unless they are named."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from ferryman.core.errors import ConfigError
from ferryman.server.data.http.head import Head, Header
from ferryman.server.data.http.reply import refusal
from ferryman.server.data.http.request import Response

_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_PREFLIGHT_S = b"600"


class Origins:
    """Hold the origins whose pages may send requests and read answers.

    A browser tells the page's origin with whatever a page sends, and lets a page send simple requests and open
    WebSockets to any server. So what may change something is refused to pages of other origins, not only hidden.
    Raises ConfigError for an origin that no browser would send.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = frozenset(_checked(origin) for origin in allowed)

    def refuse(self, head: Head) -> Response | None:
        """Answer what a page may not ask, and what a browser asks beforehand; None: go on."""
        if head.origin is None:
            return None
        if head.origin in self._allowed:
            return self._preflight(head) if head.method == "OPTIONS" else None
        if _is_own(head) or (head.method in _SAFE and not head.upgrades):
            return None
        return refusal(
            403, f"pages of {head.origin!r:.80} may not ask this server; it can be told to allow them (CORS)"
        )

    def headers(self, head: Head) -> tuple[Header, ...]:
        """Give what lets the page read the answer."""
        if head.origin is None or not self._allowed:
            return ()
        if head.origin not in self._allowed:
            return ((b"vary", b"origin"),)
        return (
            (b"access-control-allow-origin", head.origin.encode("latin-1")),
            (b"access-control-expose-headers", b"inference-header-content-length, retry-after, x-request-id"),
            (b"vary", b"origin"),
        )

    def _preflight(self, head: Head) -> Response | None:
        asked = dict(head.headers)
        method = asked.get(b"access-control-request-method")
        if method is None:
            return None
        headers = [(b"access-control-allow-methods", b"GET, POST, OPTIONS"), (b"access-control-max-age", _PREFLIGHT_S)]
        if wanted := asked.get(b"access-control-request-headers"):
            headers.append((b"access-control-allow-headers", wanted))
        return Response(204, headers=tuple(headers))


def _checked(origin: str) -> str:
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
        raise ConfigError(
            f"{origin!r} is not an origin", hint="write scheme, host and port alone, as https://page.example:8443"
        )
    return origin.lower()


def _is_own(head: Head) -> bool:
    """Say whether the page came from this server, under the name that this request asks it by."""
    return head.origin is not None and bool(head.host) and head.origin.partition("://")[2] == head.host
