"""Bring what waits to one sink: in its own thread, again after a failure, at least once, up to a bound."""

import contextlib
import logging
import random
import threading
from pathlib import Path

from ferryman.monitor.store.sinks.cursor import Cursor, read_cursor, write_cursor
from ferryman.monitor.store.sinks.protocol import SinkDown
from ferryman.monitor.store.tally import Tally

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
_LOOK_S = 1.0
_log = logging.getLogger("ferryman.watch")


class Delivery(threading.Thread):
    """Keep a cursor, and try until it moves. A subclass knows what waits behind it.

    `waits` says why nothing goes out, "" while it does. `delivered`, `refused` and `lost` are counts of what it
    delivers (records or files).
    """

    def __init__(self, folder: Path, name: str, tally: Tally, *, max_bytes: float, first_wait_s: float) -> None:
        super().__init__(name=f"records-to-{name}", daemon=True)
        self.sink_name = name
        self._folder, self._tally, self._max_bytes = folder, tally, max_bytes
        self._first_wait_s = first_wait_s
        self.cursor = read_cursor(folder, name)
        self.delivered = self.refused = self.lost = self.failures = 0
        self.waits = ""
        self._awake, self._stopping = threading.Event(), threading.Event()

    def step(self) -> bool:
        """Deliver the next piece, if there is one; raises SinkDown."""
        raise NotImplementedError

    def waiting_bytes(self) -> int:
        """Give the size of what is not delivered yet."""
        raise NotImplementedError

    def skip(self) -> bool:
        """Give the oldest piece up, and count it; False where there is nothing that can be given up."""
        raise NotImplementedError

    def run(self) -> None:
        """Deliver until `stop`."""
        wait_s = 0.0
        while not self._stopping.is_set():
            try:
                self._keep_bound()
                is_moving = self.step()
            except Exception as error:  # noqa: BLE001 - the thread's boundary: a sink's fault stops nothing else
                self.failures += 1
                told = str(error) if isinstance(error, SinkDown) else f"{type(error).__name__}: {error}"
                if not self.waits:
                    _log.warning("records wait for sink '%s': %s", self.sink_name, told[:500])
                self.waits = told[:500]
                wait_s = min(max(2 * wait_s, self._first_wait_s), LONGEST_WAIT_S)
                self._pause(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
                continue
            if self.waits:
                _log.warning("sink '%s' takes records again", self.sink_name)
            self.waits, wait_s = "", 0.0
            if not is_moving:
                self._awake.wait(_LOOK_S)
                self._awake.clear()

    def nudge(self) -> None:
        """Say that there is something new."""
        self._awake.set()

    def stop(self) -> None:
        """End after what is under way."""
        self._stopping.set()
        self._awake.set()

    def figures(self) -> dict[str, object]:
        """Say how it stands."""
        return {
            "delivered": self.delivered,
            "refused": self.refused,
            "lost": self.lost,
            "failures": self.failures,
            "waiting_bytes": self.waiting_bytes(),
            "waits": self.waits,
        }

    def _lose(self, count: int) -> None:
        self.lost += count
        self._tally.count(f"sink_{self.sink_name}", count)

    def _refuse(self, count: int) -> None:
        if count:
            self.refused += count
            self._tally.count(f"sink_{self.sink_name}_refused", count)

    def _move(self, cursor: Cursor) -> None:
        self.cursor = cursor
        try:
            write_cursor(self._folder, self.sink_name, cursor)
        except OSError:  # what is delivered after it will be delivered again by the next start
            self._tally.count(f"sink_{self.sink_name}_cursor")

    def _pause(self, seconds: float) -> None:
        while seconds > 0 and not self._stopping.wait(min(seconds, _LOOK_S)):
            seconds -= _LOOK_S
            with contextlib.suppress(OSError):
                self._keep_bound()

    def _keep_bound(self) -> None:
        while self.waiting_bytes() > self._max_bytes and self.skip():
            pass
