"""The way to one receiver: notices in order, on the disk until it has them, tried again at growing intervals."""

import contextlib
import json
import logging
import math
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferryman.core.durable import sync_folder, write_whole
from ferryman.monitor.alerts.alert import Notice
from ferryman.monitor.notify.receiver import Receiver, Undelivered

MOST_WAITING = 500
_KEPT = 200  # names of those that were sent, so that none goes out again
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 300.0
_FINAL_TRIES = 3
_DIGITS = 12
_WAITING, _SENT, _REFUSED, _DAMAGED = ".json", ".sent", ".refused", ".damaged"
_log = logging.getLogger("ferryman.watch")


@dataclass(slots=True)
class Figures:
    """Count what became of notices since this process began; `refused` and `dropped` never reached the receiver."""

    sent: int = 0
    failed_tries: int = 0
    refused: int = 0
    dropped: int = 0
    damaged: int = 0
    not_kept: int = 0
    last_error: str = ""
    last_sent_s: float | None = None


@dataclass(slots=True)
class _Waiting:
    number: int
    notice: Notice
    is_kept: bool


class Lane:
    """Hold one receiver's notices; `put` and `refresh` are called by one thread, `step` by another.

    A notice is told at least once: again only where the process ended between the receiver's word and the disk's.
    `rest` gives how much of a wait is left out, 0 to 1 of its half, so that lanes don't try in step.
    """

    def __init__(self, folder: Path, receiver: Receiver, *, rest: Callable[[], float] = random.random) -> None:
        self._folder, self._receiver, self._rest = folder, receiver, rest
        self._lock = threading.Lock()
        self._queue: list[_Waiting] = []
        self._fresh: dict[str, Notice] = {}
        self._tries = 0
        self._next_s = -math.inf
        self._sent: list[tuple[int, str]] = []
        self.figures = Figures()
        self._load()

    def put(self, notice: Notice) -> bool:
        """Keep a notice until it is told, in memory where the disk is full; False where it is known by its id."""
        with self._lock:
            known = {waiting.notice.id for waiting in self._queue} | {sent for _, sent in self._sent}
            if notice.id in known:
                return False
            number = max([0, *(one.number for one in self._queue), *(one for one, _ in self._sent)]) + 1
            waiting = _Waiting(number, notice, is_kept=False)
            self._queue.append(waiting)
            while len(self._queue) > MOST_WAITING:
                self._remove(self._queue.pop(0), "")
                self.figures.dropped += 1
            self._keep_all()
            self.figures.not_kept += not waiting.is_kept
            return True

    def refresh(self, notice: Notice) -> None:
        """Tell this when nothing waits; a later one of its group takes its place, and none is kept over a restart."""
        with self._lock:
            self._fresh[notice.group] = notice

    def step(self, now_s: float) -> float:
        """Try to tell one notice if it is time, and give how long nothing is to be done; `now_s` never goes back."""
        with self._lock:
            self._keep_all()
            waiting = self._queue[0] if self._queue else None
            notice = waiting.notice if waiting else next(iter(self._fresh.values()), None)
        if notice is None:
            return math.inf
        if now_s < self._next_s:
            return self._next_s - now_s
        try:
            self._receiver.send(notice)
        except Undelivered as error:
            return self._failed(waiting, notice, error, now_s)
        except Exception as error:  # noqa: BLE001  a fault in one receiver must not end the telling of alerts
            unforeseen = Undelivered(f"unexpected {type(error).__name__}")
            return self._failed(waiting, notice, unforeseen, now_s)
        with self._lock:
            self._told(waiting, notice)
            return 0.0 if self._queue or self._fresh else math.inf

    @property
    def waiting(self) -> int:
        """Give how many notices the receiver doesn't have yet."""
        return len(self._queue)

    def _told(self, waiting: _Waiting | None, notice: Notice) -> None:
        self._tries, self._next_s = 0, -math.inf
        self.figures.sent += 1
        self.figures.last_error = ""
        if waiting is None:
            self._forget(notice)
        elif waiting in self._queue:  # it may have been dropped meanwhile
            self._done(waiting, _SENT)

    def _forget(self, notice: Notice) -> None:
        if self._fresh.get(notice.group) is notice:
            del self._fresh[notice.group]

    def _done(self, waiting: _Waiting, suffix: str) -> None:
        """Take a notice off the queue; its name stays for a while, so that it is known when it comes again."""
        self._queue.remove(waiting)
        self._sent.append((waiting.number, waiting.notice.id))
        self._remove(waiting, suffix)
        for number, notice_id in self._sent[:-_KEPT]:
            for kept in (_SENT, _REFUSED):
                self._path(number, notice_id, kept).unlink(missing_ok=True)
        self._sent = self._sent[-_KEPT:]

    def _failed(self, waiting: _Waiting | None, notice: Notice, error: Undelivered, now_s: float) -> float:
        with self._lock:
            self._tries += 1
            self.figures.failed_tries += 1
            if str(error) != self.figures.last_error:
                _log.warning("receiver '%s' has not been told yet: %s", self._folder.name, error)
            self.figures.last_error = str(error)
            if waiting is None:
                self._forget(notice)  # the next one comes by itself
            elif error.is_final and self._tries >= _FINAL_TRIES and waiting in self._queue:
                self._done(waiting, _REFUSED)
                self.figures.refused += 1
                self._tries = 0
            longest = min(_FIRST_WAIT_S * 2.0 ** min(self._tries, 20), _LONGEST_WAIT_S)
            wait_s = max(longest * (1 - 0.5 * self._rest()), error.retry_after_s)
            self._next_s = now_s + wait_s
            return wait_s if self._queue or self._fresh else math.inf

    def _path(self, number: int, notice_id: str, suffix: str) -> Path:
        return self._folder / f"{number:0{_DIGITS}d}-{notice_id}{suffix}"

    def _keep_all(self) -> None:
        """Write what is only in memory; where that fails the next time may be luckier."""
        for waiting in self._queue:
            if waiting.is_kept:
                continue
            path = self._path(waiting.number, waiting.notice.id, _WAITING)
            try:
                write_whole(path, json.dumps(waiting.notice.to_json()).encode())
                waiting.is_kept = True
            except OSError:
                return

    def _remove(self, waiting: _Waiting, suffix: str) -> None:
        """Let go of a notice: its name stays with a suffix, or goes."""
        if not waiting.is_kept:
            return
        path = self._path(waiting.number, waiting.notice.id, _WAITING)
        with contextlib.suppress(OSError):
            if suffix:
                path.replace(path.with_suffix(suffix))
            else:
                path.unlink()
            sync_folder(self._folder)

    def _load(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(self._folder.iterdir()):
            if path.suffix == ".new":
                path.unlink(missing_ok=True)  # it was being written: whoever had it will put it again
                continue
            number, _, notice_id = path.stem.partition("-")
            if not (len(number) == _DIGITS and number.isdecimal()):
                continue
            if path.suffix in (_SENT, _REFUSED):
                self._sent.append((int(number), notice_id))
            elif path.suffix == _WAITING:
                self._read(path, int(number))
        self._sent.sort()

    def _read(self, path: Path, number: int) -> None:
        try:
            stored: Any = json.loads(path.read_bytes())  # JSON
            self._queue.append(_Waiting(number, Notice.from_json(stored), is_kept=True))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self.figures.damaged += 1
            with contextlib.suppress(OSError):
                path.replace(path.with_suffix(_DAMAGED))
