"""One line of JSON for each request, made and written after it was answered."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import orjson

from ferryman.server.data.signals.log_file import LogFile

Line = tuple[float, str, str, int, float, int, int, str, str, str, str, str, str]
"""What a request leaves: Unix time, method, path without query, status, seconds, bytes in and out, model, version,
caller, peer, request id, trace id. Strings are as the client sent them, or empty."""

Refusal = tuple[str, str, int, str, str]
"""What is refused before it is a request leaves: method and path (or nothing), status, peer, reason."""

CAPACITY = 16384
EVERY_S = 0.1
SLICE = 128  # lines made before the loop does something else: about 0.25 ms
LONGEST = 1024  # characters of one field
MOST_REFUSALS = 100  # lines at once; a flood must not fill the disk...
REFUSALS_PER_S = 1.0  # ...so this is what comes after


class AccessLog:
    """Take lines on the loop and write them from a thread; what can't be written is dropped and counted.

    `target` is a path, or "-" for stderr. Raises UserError where the file can't be opened. `suppressed` counts the
    refusals that were too many to write.
    """

    def __init__(
        self, target: str | Path, *, capacity: int = CAPACITY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.suppressed = 0
        self._clock = clock
        self._refusals_left, self._refilled_s = float(MOST_REFUSALS), clock()
        self._unsaid = 0  # refusals that were suppressed since the last line of one
        self._file = LogFile(target)
        self._lines: deque[Line | str] = deque()
        self._capacity = capacity
        self._dropped = 0
        self._second, self._prefix = -1, ""
        self._timer: asyncio.Handle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def lost(self) -> int:
        """Tell how many lines were dropped or couldn't be written."""
        return self._dropped + self._file.lost

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to write."""
        self._loop = loop
        self._file.start()
        self._timer = loop.call_later(EVERY_S, self._tick)

    def refuse(self, refusal: Refusal) -> None:
        """Take what was refused before it was a request, while there aren't too many; never blocks and never raises."""
        now_s = self._clock()
        earned = (now_s - self._refilled_s) * REFUSALS_PER_S
        self._refusals_left, self._refilled_s = min(self._refusals_left + earned, MOST_REFUSALS), now_s
        if self._refusals_left < 1:
            self.suppressed += 1
            self._unsaid += 1
            return
        self._refusals_left -= 1
        self.note(_refusal_json(refusal, time.time(), self._unsaid))
        self._unsaid = 0

    def note(self, line: Line | str) -> None:
        """Take one line, or one that is made already; never blocks and never raises."""
        if len(self._lines) < self._capacity:
            self._lines.append(line)
        else:
            self._dropped += 1

    def reopen(self) -> None:
        """Go on in a new file of the same name: for SIGHUP, when the old one was moved away."""
        self._file.reopen()

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is left, for `timeout_s` at most."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._lines and not self._file.is_behind:
            self._make()
        self._dropped += len(self._lines)
        self._lines.clear()
        self._file.close(timeout_s)

    def _tick(self) -> None:
        if self._loop is None:
            return
        if self._lines and not self._file.is_behind:
            self._make()
        # Many lines are made in slices, so that no request waits for them.
        is_more = self._lines and not self._file.is_behind
        self._timer = self._loop.call_soon(self._tick) if is_more else self._loop.call_later(EVERY_S, self._tick)

    def _make(self) -> None:
        lines = self._lines
        count = min(len(lines), SLICE)
        made = "".join([self._json(lines.popleft()) for _ in range(count)])
        self._file.write(made.encode(), count)

    def _json(self, line: Line | str) -> str:
        if isinstance(line, str):
            return line
        # Names for all, rather than slices: it is half a microsecond less.
        at_s, method, path, status, seconds, bytes_in, bytes_out, model, version, caller, peer, request_id, trace_id = (
            line
        )
        second = int(at_s)
        if second != self._second:
            self._second, self._prefix = second, time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        if not _is_plain("".join((method, path, model, version, caller, peer, request_id, trace_id))):
            method, path, model, version, caller, peer, request_id, trace_id = map(
                _escaped, (method, path, model, version, caller, peer, request_id, trace_id)
            )
        return (
            f'{{"time":"{self._prefix}{int((at_s - second) * 1e6):06d}Z","method":"{method}","path":"{path}",'
            f'"status":{status},"seconds":{seconds:.6f},"bytes_in":{bytes_in},"bytes_out":{bytes_out},'
            f'"model":"{model}","version":"{version}","caller":"{caller}","peer":"{peer}",'
            f'"request_id":"{request_id}","trace_id":"{trace_id}"}}\n'
        )


def _refusal_json(refusal: Refusal, at_s: float, suppressed: int) -> str:
    method, path, status, peer, reason = refusal
    told = f',"suppressed":{suppressed}' if suppressed else ""
    when = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return (
        f'{{"time":"{when}","method":"{_escaped(method)}","path":"{_escaped(path)}","status":{status},'
        f'"peer":"{_escaped(peer)}","reason":"{_escaped(reason)}"{told}}}\n'
    )


def _is_plain(texts: str) -> bool:
    """Tell that texts stand between quotes as they are; orjson looks at them faster than anything in Python does."""
    return (
        len(texts) < LONGEST
        and texts.isascii()
        and len(orjson.dumps(texts)) == len(texts) + 2  # it had nothing to escape
        and "\x7f" not in texts
    )


def _escaped(text: str) -> str:
    """Escape for JSON, and more: what could move a terminal's cursor or can't be UTF-8; cut what is too long."""
    if len(text) > LONGEST:
        text = text[:LONGEST] + "..."
    shown = text if text.isprintable() else text.encode("unicode_escape").decode()
    return orjson.dumps(shown).decode()[1:-1]
