"""The life of the watch: read what the front sends, tell it at each turn how things stand, answer questions."""

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import orjson

from ferryman.core.errors import FerrymanError, NotFound, NotReady, Overloaded, UserError
from ferryman.core.log_lines import VARIABLE, log_handler
from ferryman.server.watching.house import House
from ferryman.server.watching.orders import read_orders, read_watched
from ferryman.server.watching.packets import MOST_PACKET_BYTES, split
from ferryman.server.watching.progress import Progress
from ferryman.server.watching.shelf import Shelf

_TICK_S = 3.0  # where the front tells nothing: else each of its letters of figures, every two seconds, is a tick
_TOLD_AS = (UserError, NotFound, Overloaded)  # others are no caller's business
_TIDIED_S = 3.0  # the server waits 5 s for this process
_MOST_ALERTS = 200
_MOST_SCORES = 50  # of a version, strongest first
_NICE = 5  # serving goes first
_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_log = logging.getLogger("ferryman.watch")


def live(link: int, orders: int, progress: int, payloads: int) -> NoReturn:
    """Watch until the front's end of `link` closes.

    `orders` is a file that says what, `progress` one of `Progress`, and through `payloads` come payloads to keep.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    logging.root.addHandler(log_handler(os.environ.get(VARIABLE, "text"), text=_FORMAT, stream=sys.stderr))
    try:
        os.nice(_NICE)
        with os.fdopen(orders, "rb") as stream:
            stream.seek(0)
            told = json.loads(stream.read())
        with socket.socket(fileno=link) as ours:
            house = House(read_orders(told))
            shelf = Shelf(socket.socket(fileno=payloads), house)
            _Watch(ours, house, Progress(progress), shelf).live()
    except BaseException:  # noqa: BLE001 - the boundary of a process
        traceback.print_exc()
        os._exit(70)
    os._exit(0)


class _Watch:
    def __init__(self, link: socket.socket, house: House, progress: Progress, shelf: Shelf) -> None:
        self._shelf = shelf
        self._link = link
        self._house = house
        self._progress = progress
        self._killed = progress.lost  # of which the diary knows
        self._ended = threading.Event()
        self._ticked = threading.Event()

    def live(self) -> None:
        tidying = threading.Thread(target=self._tidy, name="tidy", daemon=True)
        tidying.start()
        self._shelf.start()
        due_s = time.monotonic()
        while True:
            self._link.settimeout(max(0.01, due_s - time.monotonic()))
            try:
                message = self._link.recv(MOST_PACKET_BYTES)
            except TimeoutError:
                message = None
            if message == b"":
                break
            is_due = message is not None and self._take(message)
            if is_due or time.monotonic() >= due_s:
                due_s = time.monotonic() + _TICK_S
                self._tick()
        self._ended.set()
        self._shelf.close()
        self._ticked.set()
        tidying.join(_TIDIED_S)
        self._house.close(is_tidy=not tidying.is_alive())

    def _tick(self) -> None:
        try:
            self._house.lose({"killed": self._progress.lost - self._killed})
            self._killed = self._progress.lost
            self._house.tick()
        except Exception:  # noqa: BLE001 - one signal or rule that fails must not end the watch of all others
            _log.exception("a turn of the watch failed")
        self._tell({"status": self._status()})
        self._ticked.set()

    def _take(self, message: bytes) -> bool:
        """Take a letter; tells whether a turn is due after it."""
        head, _, body = message.partition(b"\n")
        before, records = (int(part) for part in head.split())
        self._progress.begin(before)
        is_due = False
        try:
            letter = orjson.loads(body)
            self._read(letter)
            is_due = "figures" in letter
        except Exception:  # noqa: BLE001 - what one message holds must not end the watch of all others
            self._house.lost["unreadable"] += records
            _log.exception("a message can't be read")
        self._progress.end(records)
        return is_due

    def _read(self, letter: dict[str, Any]) -> None:  # JSON
        if "watched" in letter:
            self._house.watch(read_watched(letter["watched"]))
        elif "figures" in letter:
            self._house.figures = letter["figures"]
        elif "acted" in letter:
            self._house.actions.answered(letter["acted"])
        elif "lost" in letter:
            self._house.lose(letter["lost"])
        elif "question" in letter:
            self._answer(letter["question"])
        else:
            self._house.take(letter)

    def _answer(self, question: dict[str, Any]) -> None:  # JSON
        house = self._house
        answers: dict[str, Callable[[], Any]] = {  # JSON
            "status": self._status, "drift": house.drift, "alerts": house.alerts, "performance": house.performance,
            "feedback": lambda: house.take_feedback(question["content"]), "silences": house.silences,
            "silence": lambda: house.silence(question["content"]),
            "unsilence": lambda: house.unsilence(question["content"]),
            "actions": house.actions.state,
        }  # fmt: skip
        told: dict[str, Any] = {"number": question["number"]}  # JSON
        try:
            told["value"] = answers[question["about"]]()
        except FerrymanError as error:
            kind = next((one for one in _TOLD_AS if isinstance(error, one)), NotReady)
            told |= {"error": str(error), "hint": error.hint, "kind": kind.__name__}
        self._tell({"answer": told})

    def _status(self) -> dict[str, Any]:  # JSON
        house = self._house
        return {
            "cpu_s": time.process_time(),
            "looking_s": round(house.looking_s, 6),
            "taking_s": round(house.taking_s, 6),
            "records": house.records,
            "rows": house.rows,
            "lost": {**house.losses(), "killed": self._progress.lost},
            "alerts": [_short(alert) for alert in house.alerts()[:_MOST_ALERTS]],
            "notices": house.notices(),
            "machine": house.machine(),
            "payloads": {"taken": self._shelf.taken, "kept": house.payloads_kept()},
            "drift": [_brief(state) for state in house.drift()],
            "performance": house.performance_brief(),
            "actions": house.actions.counts(),
            "stopped": [[each.model, each.version, each.value] for each in house.actions.readings()],
            "orders": house.actions.orders(),
        }

    def _tell(self, told: dict[str, Any]) -> None:  # JSON
        try:
            self._link.settimeout(1.0)
            for packet in split(orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)):
                self._link.send(packet)
        except (TimeoutError, OSError) as error:
            print(f"ferryman: the watch can't tell the server: {error}", file=sys.stderr)  # noqa: T201 - its log

    def _tidy(self) -> None:
        while self._ticked.wait() and not self._ended.is_set():  # right after a tick, while this process is awake
            self._ticked.clear()
            try:
                self._house.tidy()
            except Exception:  # noqa: BLE001 - a store that fails must not end the rest
                traceback.print_exc()


def _short(alert: dict[str, Any]) -> dict[str, Any]:  # JSON
    return {key: alert[key] for key in ("rule", "model", "version", "severity", "state")}


def _brief(state: dict[str, Any]) -> dict[str, Any]:  # JSON
    """Leave out what a message of each turn has no room for: a table may have a thousand signals."""
    strongest = dict(list(state["scores"].items())[:_MOST_SCORES])
    return {**{key: state[key] for key in ("model", "version", "drifted", "threshold")}, "scores": strongest}
