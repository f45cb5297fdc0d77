"""Post records as CloudEvents over HTTP."""

import http.client
import ssl
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from ferryman.core.recording import CloudEventsSink as Section
from ferryman.monitor.store.sinks.events import BATCHED, STRUCTURED, dump, event_of, headers_of
from ferryman.monitor.store.sinks.protocol import Event, SinkDown

_AGAIN = (401, 403, 404, 408, 421, 425, 429)
"""Answers below 500 that a sink's operator can mend: what was refused with these is kept and sent again."""


class CloudEventsSink:
    """Keep one connection, and post on it."""

    def __init__(self, section: Section, token: str = "") -> None:
        self._section, self._token = section, token
        parts = urlsplit(section.url)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._host, self._port, self._is_tls = parts.hostname or "", parts.port, parts.scheme == "https"
        self._where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"  # a query may hold a key
        self._connection: http.client.HTTPConnection | None = None

    def send(self, events: Sequence[Event]) -> int:
        """Post them all; what is refused for what it is, is counted and left."""
        told = [event_of(event, self._section.source) for event in events]
        if self._section.mode == "batched":
            return self._batched(told)
        return sum(self._one(each) for each in told)

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _one(self, told: dict[str, object]) -> int:
        if self._section.mode == "binary":
            status = self._post(dump(told["data"]), headers_of(told))
        else:
            status = self._post(dump(told), {"content-type": STRUCTURED})
        return int(status >= 400)

    def _batched(self, told: list[dict[str, object]]) -> int:
        status = self._post(dump(told), {"content-type": BATCHED})
        if status < 400:
            return 0
        if len(told) == 1:
            return 1
        half = len(told) // 2  # one of them, or all together: find out which
        return self._batched(told[:half]) + self._batched(told[half:])

    def _post(self, body: bytes, headers: Mapping[str, str]) -> int:
        if self._token:
            headers = {**headers, "authorization": f"Bearer {self._token}"}
        try:
            connection = self._connection = self._connection or self._connect()
            connection.request("POST", self._path, body, dict(headers))
            answer = connection.getresponse()
            while answer.read(65536):
                pass
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise SinkDown(f"{self._where}: {error or type(error).__name__}") from None
        if answer.will_close:
            self.close()
        if 200 <= answer.status < 300 or (400 <= answer.status < 500 and answer.status not in _AGAIN):
            return answer.status
        raise SinkDown(f"{self._where} answers {answer.status} {answer.reason}")

    def _connect(self) -> http.client.HTTPConnection:
        timeout_s = self._section.timeout_s
        if self._is_tls:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
