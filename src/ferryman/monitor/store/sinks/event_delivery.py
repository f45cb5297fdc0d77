"""Bring records to a sink that takes them one by one, from the journals themselves."""

from pathlib import Path

import orjson

from ferryman.monitor.store.frames import HEADER, MAX_FRAME_BYTES, Damage, scan
from ferryman.monitor.store.layout import JOURNAL, SPOOL, segment_number, segments
from ferryman.monitor.store.rows import decode
from ferryman.monitor.store.sinks.cursor import Cursor
from ferryman.monitor.store.sinks.delivery import FIRST_WAIT_S, Delivery
from ferryman.monitor.store.sinks.protocol import Event, EventSink
from ferryman.monitor.store.tally import Tally

_CHUNK = 512 << 10
_MOST_EVENTS = 500
_HEAD_BYTES = 16


class EventDelivery(Delivery):
    """Read on from the cursor, through journals that are closed and the one that is being written."""

    def __init__(
        self,
        folder: Path,
        name: str,
        tally: Tally,
        sink: EventSink,
        *,
        max_bytes: float,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        super().__init__(folder, name, tally, max_bytes=max_bytes, first_wait_s=first_wait_s)
        self._sink = sink

    def step(self) -> bool:
        """Deliver up to 500 records."""
        events, after = self._next()
        if events:
            refused = self._sink.send(events)
            self.delivered += len(events) - refused
            self._refuse(refused)
        return self._moved(after)

    def waiting_bytes(self) -> int:
        """Give the bytes of journals behind the cursor."""
        total = 0
        for path in self._waiting():
            try:
                total += path.stat().st_size - (self.cursor.offset if path.stem == self.cursor.segment else 0)
            except OSError:
                continue
        return total

    def skip(self) -> bool:
        """Give up to 500 records up."""
        events, after = self._next()
        if events:
            self._lose(len(events))
        return self._moved(after)

    def stop(self) -> None:
        """End, and close the sink."""
        super().stop()
        if self.is_alive():
            self.join(5.0)
        self._sink.close()

    def _moved(self, after: Cursor) -> bool:
        if after == self.cursor:
            return False
        self._move(after)
        return True

    def _waiting(self) -> list[Path]:
        """List journals from the cursor on: where one has just moved from `journal` to `spool`, once."""
        found = {path.stem: path for path in segments(self._folder, JOURNAL)}
        found.update({path.stem: path for path in segments(self._folder, SPOOL)})
        return [found[stem] for stem in sorted(found) if segment_number(stem) >= self.cursor.number]

    def _next(self) -> tuple[list[Event], Cursor]:
        """Read what comes next, and where the cursor is behind it."""
        waiting = self._waiting()
        if not waiting:
            return [], self.cursor
        path = waiting[0]
        start = self.cursor.offset if path.stem == self.cursor.segment else 0
        held = _read(path, start, _CHUNK)
        events, end = self._events(path.stem, start, held)
        if not events and len(held) == _CHUNK:  # a long frame, or a long stretch of damage
            held = _read(path, start, MAX_FRAME_BYTES + _HEAD_BYTES)
            events, end = self._events(path.stem, start, held)
            if end == start:
                end = start + len(held) - _HEAD_BYTES
        if end == start and len(waiting) > 1:
            return [], Cursor(waiting[1].stem, 0)
        return events, Cursor(path.stem, end) if end != start else self.cursor

    def _events(self, segment: str, start: int, held: bytes) -> tuple[list[Event], int]:
        events: list[Event] = []
        end = start
        begin = len(HEADER) if start == 0 and held.startswith(HEADER) else 0
        for behind, payload in scan(held, Damage(), start=begin):
            end = start + behind
            try:
                events.append(Event(f"{segment}.{end}", decode(payload)))
            except orjson.JSONDecodeError:
                self._lose(1)
            if len(events) >= _MOST_EVENTS:
                break
        return events, end


def _read(path: Path, start: int, most: int) -> bytes:
    with path.open("rb") as opened:
        opened.seek(start)
        return opened.read(most)
