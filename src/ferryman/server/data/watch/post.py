"""Facts on their way to the watch: a bounded queue before a socket that is never waited for."""

import asyncio
import logging
import socket
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import orjson

from ferryman.core.errors import FerrymanError
from ferryman.server.data.ask import Ask, Reply, Stages
from ferryman.server.data.look import Facts, Look
from ferryman.server.data.signals.outcomes import outcome_of

_FLUSH_S = 2.0  # each letter wakes the watch, which costs more than what a few records do
_MOST_RECORDS = 512  # of one message
_MOST_MESSAGE_BYTES = 160_000  # what a packet of the kernel's usual size holds
_MOST_QUEUED_BYTES = 8_000_000
_MOST_TEXT = 1024  # characters of an id, of which callers send any
_SELDOM = ("watched",)  # and nobody says it again
_NONE = Stages()
_log = logging.getLogger("ferryman.server")


class Post:
    """Send what is to be recorded; use it from the loop's thread. Nothing here waits: what doesn't fit is counted."""

    def __init__(self, loop: asyncio.AbstractEventLoop, far: socket.socket) -> None:
        self.lost: Counter[str] = Counter()
        self.left_out = 0
        """Answered asks that were not looked into: they have no record."""
        self.spent_s = 0.0
        """CPU time of packing and sending."""
        self._loop = loop
        self._socket = far
        self._facts: list[Facts] = []
        self._looks: list[tuple[Sequence[Facts | None], bytes]] = []
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._put_records = 0
        self._timer: asyncio.TimerHandle | None = None
        self._offset_s = time.time() - loop.time()

    def heard(
        self, ask: Ask, name: str, version: str, reply: Reply | None, error: FerrymanError | None, seconds: float
    ) -> None:
        """Take one ended ask, as an observer of the dataplane: of those not looked into only errors are kept."""
        place = ask.note
        if place is None and error is None:
            self.left_out += 1
            return
        stages = reply.stages if reply is not None else _NONE
        facts: Facts = (
            ask.id[:_MOST_TEXT], name, version, self._offset_s + ask.arrived_s, outcome_of(error), ask.transport,
            ask.trace_id[:_MOST_TEXT],
            seconds, stages.queue_s, stages.prepare_s, stages.infer_s, stages.finish_s, stages.asks, ask.rows,
        )  # fmt: skip
        if place is not None:
            place.look.facts[place.number] = facts
        else:
            self._facts.append(facts)
            self._wake()

    def seen(self, look: Look, note: bytes) -> None:
        """Take a look whose asks have ended, with what the worker saw."""
        if not note:
            self._facts.extend(look.facts.values())
        else:
            self._looks.append(([look.facts.get(place) for place in range(max(look.facts, default=-1) + 1)], note))
        self._wake()

    def tell(self, kind: str, content: Any) -> bool:  # JSON
        """Send something that is no record; tells whether it will be read, as far as this side knows."""
        is_sent = self._put(0, orjson.dumps({kind: content}), is_bounded=kind not in _SELDOM)
        self.flush()
        return is_sent

    def flush(self) -> None:
        """Send what is there, as far as the watch takes it now."""
        began_s = time.thread_time()
        self._offset_s = time.time() - self._loop.time()  # a clock may be set right while a server runs
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._pack()
        while self._queue:
            message = self._queue[0]
            try:
                self._socket.send(message)
            except (BlockingIOError, InterruptedError):
                self._wake()
                break
            except OSError as error:  # the watch counts them, when it reads of those after them
                _log.warning("the watch can't be told: %s", error)
            self._queue.popleft()
            self._queued_bytes -= len(message)
        self.spent_s += time.thread_time() - began_s

    def close(self) -> None:
        """Send what can be sent now, and no more."""
        self.flush()
        if self._timer is not None:
            self._timer.cancel()

    def _wake(self) -> None:
        if len(self._facts) + len(self._looks) >= _MOST_RECORDS:
            self._pack()
        if self._timer is None:
            self._timer = self._loop.call_later(_FLUSH_S, self.flush)

    def _pack(self) -> None:
        facts, self._facts = self._facts, []
        for start in range(0, len(facts), _MOST_RECORDS):
            self._put_facts(facts[start : start + _MOST_RECORDS])
        looks, self._looks = self._looks, []
        part_looks: list[tuple[Sequence[Facts | None], orjson.Fragment]] = []
        part_bytes = records = 0
        for known, note in looks:
            if part_looks and part_bytes + len(note) > _MOST_MESSAGE_BYTES // 2:
                self._put(records, orjson.dumps({"looks": part_looks}))
                part_bytes, part_looks, records = 0, [], 0
            part_looks.append((known, orjson.Fragment(note)))
            part_bytes += len(note) + sum(200 + len(str(each[0])) for each in known if each is not None)
            records += len(known)
        if part_looks:
            self._put(records, orjson.dumps({"looks": part_looks}))

    def _put_facts(self, facts: Sequence[Facts]) -> None:
        message = orjson.dumps({"records": facts})
        if len(message) > _MOST_MESSAGE_BYTES - 100 and len(facts) > 1:  # long ids
            middle = len(facts) // 2
            self._put_facts(facts[:middle])
            self._put_facts(facts[middle:])
        else:
            self._put(len(facts), message)

    def _put(self, records: int, message: bytes, *, is_bounded: bool = True) -> bool:
        framed = b"%d %d\n" % (self._put_records, records) + message
        if len(framed) > _MOST_MESSAGE_BYTES:
            self.lost["too_large"] += records
        elif is_bounded and self._queued_bytes + len(framed) > _MOST_QUEUED_BYTES:
            self.lost["queue_full"] += records
        else:
            self._queue.append(framed)
            self._queued_bytes += len(framed)
            self._put_records += records
            return True
        return False
