"""Payloads as they come from the front: read beside everything else, for redacting a picture takes its time."""

import logging
import socket
import threading
from typing import Any

import orjson

from ferryman.monitor.store.sampling import LENGTHS
from ferryman.server.watching.house import House

_LAST_S = 3.0
_log = logging.getLogger("ferryman.watch")


class Shelf:
    """Read payloads off a socket in a thread and have them kept, until its other end closes."""

    def __init__(self, link: socket.socket, house: House) -> None:
        self.taken = 0
        self._link = link
        self._house = house
        self._thread = threading.Thread(target=self._read, name="payloads", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Keep what has come, for a few seconds at most."""
        self._thread.join(_LAST_S)

    def _read(self) -> None:
        with self._link, self._link.makefile("rb") as stream:
            while len(lengths := stream.read(LENGTHS.size)) == LENGTHS.size:
                about_bytes, payload_bytes = LENGTHS.unpack(lengths)
                about, payload = stream.read(about_bytes), stream.read(payload_bytes)
                if len(about) < about_bytes or len(payload) < payload_bytes:
                    return  # the server has died
                self._keep(about, payload)
                self.taken += 1

    def _keep(self, about: bytes, payload: bytes) -> None:
        try:
            told: dict[str, Any] = orjson.loads(about)  # JSON
            self._house.keep_payload(told, payload)
        except Exception:  # noqa: BLE001 - what one payload holds must not end the keeping of all others
            self._house.lost["payload_unreadable"] += 1
            _log.exception("a payload can't be kept")
