"""Notices on their way out: a lane and a thread for each receiver, so that a slow one holds up no other."""

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ferryman.core.errors import ConfigError
from ferryman.monitor.alerts.alert import Notice
from ferryman.monitor.notify.lane import Lane
from ferryman.monitor.notify.receiver import Receiver

_LONGEST_REST_S = 60.0


class Outbox:
    """Keep notices on the disk until each receiver has them, over restarts, too. One process holds the folder.

    Call `start` once, `close` at the end: what waits then is sent by the next process.
    """

    def __init__(self, folder: Path, receivers: Mapping[str, Receiver]) -> None:
        self._claim = _claimed(folder)
        self._lanes = {name: Lane(folder / name, receiver) for name, receiver in receivers.items()}
        self._others = [one for one in folder.iterdir() if one.is_dir() and one.name not in self._lanes]
        self._wake = {name: threading.Event() for name in self._lanes}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to send, each receiver in a thread of its own."""
        for name in self._lanes:
            thread = threading.Thread(target=self._run, args=(name,), name=f"notify-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def put(self, notices: Sequence[Notice]) -> None:
        """Keep notices for their receivers; on the disk when this returns, unless that is full (`status` counts)."""
        for notice in notices:
            self._lanes[notice.receiver].put(notice)
            self._wake[notice.receiver].set()

    def refresh(self, notice: Notice) -> None:
        """Tell something that is not worth keeping, as it is told again soon."""
        self._lanes[notice.receiver].refresh(notice)
        self._wake[notice.receiver].set()

    def status(self) -> dict[str, Any]:  # JSON
        """Give by receiver what waits, what was sent, and what was given up and why."""
        told = {name: {"waiting": lane.waiting, **asdict(lane.figures)} for name, lane in self._lanes.items()}
        left = {one.name: {"waiting": len(list(one.glob("*.json"))), "is_gone": True} for one in self._others}
        return {**told, **left}

    def close(self, *, timeout_s: float = 5.0) -> None:
        """Stop sending; waits so long for what is on its way."""
        self._stopping.set()
        for event in self._wake.values():
            event.set()
        deadline_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(deadline_s - time.monotonic(), 0))
        with contextlib.suppress(OSError):
            os.close(self._claim)

    def _run(self, name: str) -> None:
        lane, wake = self._lanes[name], self._wake[name]
        while not self._stopping.is_set():
            wake.clear()
            wait_s = lane.step(time.monotonic())
            if wait_s > 0:
                wake.wait(min(wait_s, _LONGEST_REST_S))


def _claimed(folder: Path) -> int:
    """Take a folder for this process alone, until it ends; raises ConfigError where another has it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".claim", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{folder} can't be written: {error.strerror}", hint="alerts need a place to wait") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ConfigError(f"another process tells of alerts from {folder}", hint="a folder for each server") from None
    return descriptor
