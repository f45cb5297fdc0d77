"""Ask several addresses of one service, and go on where one gives no answer: for servers that come and go."""

import http.client
import random
import time
from collections.abc import Mapping, Sequence

from ferryman.client.access import NOBODY, Access
from ferryman.client.http import Client
from ferryman.client.link import Link, Reply, read_url
from ferryman.core.errors import ConfigError, NotReady

_FIRST_S, _LONGEST_S = 0.05, 2.0
_PASSING = (http.client.TOO_MANY_REQUESTS, http.client.BAD_GATEWAY, http.client.SERVICE_UNAVAILABLE)
_JSON = "application/json"


class SteadyClient(Client):
    """Ask as `Client` does, until there is an answer or `patience_s` is over.

    An inference changes nothing, so it may be asked twice: it is, of the next address, where a connection breaks,
    where the server is full or not ready (429, 502, 503), and where something before the server failed (a 500 that is
    no JSON, as a proxy gives it whose server has died). What the server itself refuses or fails at is not asked again.
    """

    def __init__(
        self, urls: Sequence[str], timeout_s: float = 30.0, *, patience_s: float = 60.0, access: Access = NOBODY
    ) -> None:
        if not urls:
            raise ConfigError("there is no address to ask", hint="give one http://HOST:PORT or more")
        super().__init__(urls[0], timeout_s, access=access)
        links = []
        for url in urls:
            parts = read_url(url, "http://HOST:PORT")
            path = parts.path.rstrip("/").removesuffix("/v2")
            links.append(Link(parts._replace(path=path), timeout_s=timeout_s, access=access))
        self._link = self._links = _Links(links, patience_s)

    @property
    def retries(self) -> int:
        """Count the requests that were asked again."""
        return self._links.retries


class _Links(Link):
    """Be asked and closed like one link, and have several."""

    def __init__(self, links: Sequence[Link], patience_s: float) -> None:
        self.url = links[0].url
        self.retries = 0
        self._links = links
        self._patience_s = patience_s
        self._turn = random.randrange(len(links))  # noqa: S311 - no secret: so that clients don't all begin with one

    def close(self) -> None:
        """Close every connection."""
        for link in self._links:
            link.close()

    def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Ask one after the other; gives the last refusal, or raises the last NotReady, when the time is over."""
        end_s = time.monotonic() + self._patience_s
        wait_s = _FIRST_S
        while True:
            reply: Reply | None = None
            try:
                reply = self._links[self._turn].ask(method, path, body, headers)
                if not _is_passing(reply):
                    return reply
            except NotReady:
                if time.monotonic() + wait_s > end_s:
                    raise
            if reply is not None and time.monotonic() + wait_s > end_s:
                return reply
            self.retries += 1
            self._turn = (self._turn + 1) % len(self._links)
            time.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret: so that clients don't come together
            wait_s = min(wait_s * 2, _LONGEST_S)


def _is_passing(reply: Reply) -> bool:
    """Tell what may be otherwise a moment later, or elsewhere."""
    is_foreign = reply.status == http.client.INTERNAL_SERVER_ERROR and _JSON not in reply.headers.get(
        "content-type", ""
    )
    return reply.status in _PASSING or is_foreign
