"""Read no slower than a pace: a server that drips bytes would hold a reader for ever, since each byte is in time."""

import http.client
import io
import time
from typing import Any

LEAST_BYTES_PER_S = 100
"""Slower than any line over which a bundle could be had."""


class TooSlow(TimeoutError):
    """Say that a server sends, and too slowly to wait for its end."""


class PacedResponse(http.client.HTTPResponse):
    """Be a response, its headers as well, that raises TooSlow where a whole timeout brings next to nothing."""

    def __init__(self, sock: Any, *args: Any, **words: Any) -> None:  # as http.client calls it, which tells no types
        super().__init__(sock, *args, **words)
        self.fp = io.BufferedReader(_Paced(self.fp, sock.gettimeout()))


class _Paced(io.RawIOBase):
    """Pass on what comes, and look at the clock: each part in time is not enough."""

    def __init__(self, stream: io.BufferedReader, window_s: float | None) -> None:
        self._stream, self._window_s = stream, window_s
        self._begun_s, self._bytes = 0.0, 0  # from the first byte on: a registry may think before it answers

    def readable(self) -> bool:
        return True

    def readinto(self, place: Any, /) -> int | None:  # a buffer
        count = self._stream.raw.readinto(place)
        self._begun_s, self._bytes = self._begun_s or time.monotonic(), self._bytes + (count or 0)
        spent_s = time.monotonic() - self._begun_s
        if self._window_s is not None and spent_s >= self._window_s:
            if count and self._bytes < LEAST_BYTES_PER_S * spent_s:
                raise TooSlow(f"{self._bytes} bytes in {spent_s:.0f} s")
            self._begun_s, self._bytes = time.monotonic(), 0
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()
