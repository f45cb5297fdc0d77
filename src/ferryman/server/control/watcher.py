"""The front's side of the watch: its process is started, started again, told what is served, and heard."""

import asyncio
import json
import logging
import os
import socket
import time
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ferryman.core.errors import FerrymanError, InputError, NotFound, NotReady, Overloaded, UserError
from ferryman.server.data.lane import Looks
from ferryman.server.data.look import Look
from ferryman.server.data.watch.post import Post
from ferryman.server.data.watch.sampler import Sampler
from ferryman.server.data.watch.samples import Samples
from ferryman.server.data.worker.zygote import Child, Role, Zygote
from ferryman.server.watching.orders import Orders, Watched, write_orders
from ferryman.server.watching.packets import MOST_PACKET_BYTES, Joining

_WATCH = Role("ferryman-watch", "ferryman.server.watching.process:live")
_ANSWERED_S = 10.0
_SAVED_S = 5.0
_SENT_S = 2.0
_FIRST_S, _LONGEST_S = 0.5, 30.0
_STEADY_S = 60.0
_STATES = {"pending": 1.0, "firing": 2.0}
_REFUSALS: dict[str, type[FerrymanError]] = {kind.__name__: kind for kind in (UserError, NotFound, Overloaded)}
_log = logging.getLogger("ferryman.server")

Labels = tuple[str, ...]


class Spent(NamedTuple):
    """Hold CPU seconds until a moment: of all processes, the watch, looks, what of these is in the watch, the front."""

    at_s: float = 0.0
    tree_s: float = 0.0
    watch_s: float = 0.0
    looking_s: float = 0.0
    taking_s: float = 0.0
    front_s: float = 0.0


class Watcher:
    """Hold the watch. Use it from the server's loop.

    The socket to it outlives the process: what it had not read when it died is read by the next one.
    """

    def __init__(self, zygote: Zygote, folder: Path | None) -> None:
        self.status: Mapping[str, Any] = {}  # JSON: what the watch said last
        self._zygote = zygote
        self._folder = folder
        self._loop = asyncio.get_running_loop()
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._progress = os.memfd_create("progress")
        self.post = Post(self._loop, self._ours)
        self.samples = Samples(self._loop)
        self.samples.drifted = self._drifted
        self._samplers: weakref.WeakSet[Sampler] = weakref.WeakSet()
        self._watched: tuple[Watched, ...] = ()
        self._child: Child | None = None
        self._begun_s = 0.0
        self._pause_s = _FIRST_S
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self._last_question = 0
        self._before = Spent()
        self._watch_cpu_s = 0.0
        self._is_closed = False
        self._joining = Joining()
        self._restarts = 0
        self._taken_before = 0  # by watches that have ended
        self._lost_before: Counter[str] = Counter()
        self._ended = asyncio.Event()

    @property
    def is_watching(self) -> bool:
        """Tell whether there is anything to watch: the process begins with the first version."""
        return self._child is not None

    def looks(self, budget: float) -> Looks:
        """Give what decides, call by call, whether one version's are looked into."""
        sampler = Sampler(budget)
        self._samplers.add(sampler)

        def look(now_s: float) -> Look | None:
            return Look(self.post.seen) if self._child is not None and sampler.draw(now_s) else None

        return look

    def watch(self, versions: Sequence[Watched]) -> None:
        """Watch these versions from now on; the process begins with the first."""
        if tuple(versions) == self._watched or self._is_closed:
            return
        self._watched = tuple(versions)
        if self._child is None and self._watched:
            self._loop.add_reader(self._ours.fileno(), self._read)
            self._start()
        elif self._child is not None:
            self.post.tell("watched", write_orders(Orders(watched=self._watched))["watched"])

    async def ask(self, about: str, content: Any = None) -> Any:  # JSON
        """Ask the watch, or tell it; raises what it refuses, and NotReady where it doesn't answer or watch yet."""
        if self._child is None:
            raise NotReady("nothing is watched yet", hint="it begins two seconds after the first model is served")
        self._last_question += 1
        number = self._last_question
        answered = self._questions[number] = self._loop.create_future()
        if not self.post.tell("question", {"number": number, "about": about, "content": content}):
            del self._questions[number]
            raise InputError("the watch can't be told so much at once", hint="send less, or a little later")
        try:
            async with asyncio.timeout(_ANSWERED_S):
                return await answered
        except TimeoutError:
            raise NotReady("the watch doesn't answer", hint="it may just be starting: try again") from None
        finally:
            self._questions.pop(number, None)

    def balance(self, tree_s: float, turns_s: float) -> None:
        """Set how much is looked into, by what watching cost since the last time.

        `tree_s` is the CPU time of all processes, `turns_s` what the front's turns took.
        """
        told = self.status
        looking_s = float(told.get("looking_s", 0.0)) + float(told.get("taking_s", 0.0))
        front_s = turns_s + self.post.spent_s
        now = Spent(time.monotonic(), tree_s, self._watch_cpu_s, looking_s, float(told.get("taking_s", 0.0)), front_s)
        before, self._before = self._before, now
        all_s, watch_s = now.tree_s - before.tree_s, now.watch_s - before.watch_s
        looking_s, taking_s = now.looking_s - before.looking_s, now.taking_s - before.taking_s
        fixed_s = watch_s - taking_s + now.front_s - before.front_s
        if all_s <= 0.0 or min(watch_s, looking_s, taking_s) < 0.0:  # a process has ended, and its time went with it
            return
        for sampler in self._samplers:
            sampler.spent(looking_s, all_s - watch_s, fixed_s=max(fixed_s, 0.0), passed_s=now.at_s - before.at_s)

    def records(self) -> float:
        """Give how many records the watch has taken."""
        return float(self._taken_before + self.status.get("records", 0))

    def left_out(self) -> float:
        """Give how many answered requests have no record, as their calls were not looked into."""
        return float(self.post.left_out)

    def restarts(self) -> float:
        """Give how often the watch was started again."""
        return float(self._restarts)

    def share(self) -> float:
        """Give the share of the calls that are looked into, the least of all versions."""
        return min((sampler.share for sampler in self._samplers), default=0.0)

    def of_drift(self, figure: str) -> dict[Labels, float]:
        """Give a figure of each version's drift."""
        return {
            (model, version): float(brief[figure])
            for (model, version), brief in self._briefs()
            if brief.get(figure) is not None
        }

    def scores(self) -> dict[Labels, float]:
        """Give how far each signal of each version is from its baseline."""
        return {
            (model, version, signal): float(score)
            for (model, version), brief in self._briefs()
            for signal, score in brief["scores"].items()
        }

    def of_performance(self, figure: str) -> dict[Labels, float]:
        """Give a figure of how well each version does, where it is known."""
        return {
            (each["model"], each["version"]): float(each[figure])
            for each in self.status.get("performance", ())
            if each[figure] is not None
        }

    def alerts(self) -> dict[Labels, float]:
        """Give the alerts that are pending (1) or fire (2)."""
        return {
            (alert["rule"], alert["model"], alert["version"], alert["severity"]): _STATES[alert["state"]]
            for alert in self.status.get("alerts", ())
            if alert["state"] in _STATES
        }

    def actions(self) -> dict[Labels, float]:
        """Give how many actions ended, by what was done and how it ended."""
        return {(do, outcome): float(count) for do, outcome, count in self.status.get("actions", ())}

    def stopped(self) -> dict[Labels, float]:
        """Give 1 for each version of which more is asked for than may be done by itself."""
        return {(model, version): value for model, version, value in self.status.get("stopped", ())}

    def of_machine(self, figure: str) -> float | None:
        """Give a figure of the machine; None where it isn't known."""
        found = self.status.get("machine", {}).get(figure)
        return float(found) if found is not None else None

    def notices(self) -> dict[Labels, float]:
        """Give what was told to each receiver, by what became of it."""
        return {(receiver, result): float(count) for receiver, result, count in self.status.get("notices", ())}

    def lost(self) -> dict[Labels, float]:
        """Give the records that were lost on their way, by reason."""
        lost = self.post.lost + self.samples.lost + self._lost_before + Counter(self.status.get("lost", {}))
        return {(reason,): float(count) for reason, count in lost.items()}

    async def close(self) -> None:
        """Let the watch finish what it has; it ends with the socket, and has a few seconds to save what it knows."""
        self._is_closed = True
        await self.samples.finish(_SENT_S)
        self.post.close()
        if self._child is not None:
            self._loop.remove_reader(self._ours.fileno())
        self._ours.close()
        self._theirs.close()
        os.close(self._progress)
        if self._child is not None and not self._child.is_gone:
            with suppress(TimeoutError):
                async with asyncio.timeout(_SAVED_S):
                    await self._ended.wait()

    def payloads(self) -> float:
        """Give how many payloads are kept that this watch was sent."""
        return float(self.status.get("payloads", {}).get("kept", 0))

    def _drifted(self) -> set[tuple[str, str]]:
        return {key for key, brief in self._briefs() if brief["drifted"]}

    def _briefs(self) -> Iterator[tuple[tuple[str, str], Mapping[str, Any]]]:  # JSON
        for brief in self.status.get("drift", ()):
            yield (brief["model"], brief["version"]), brief

    def _start(self) -> None:
        self._begun_s = time.monotonic()
        self._joining = Joining()
        orders = os.memfd_create("orders")
        ours, theirs = socket.socketpair()
        try:
            told = Orders(str(self._folder.absolute()) if self._folder is not None else "", self._watched)
            os.write(orders, json.dumps(write_orders(told)).encode())
            given = [self._theirs.fileno(), orders, self._progress, theirs.fileno()]
            self._child = self._zygote.fork(given, self._exited, role=_WATCH)
        finally:
            os.close(orders)
            theirs.close()
        self.samples.open(ours)

    def _exited(self, reason: str) -> None:
        self._watch_cpu_s = 0.0
        if self._is_closed:
            self._ended.set()
            return
        self._restarts += 1
        self.samples.lost["payload_killed"] += max(
            0, self.samples.sent - self.status.get("payloads", {}).get("taken", 0)
        )
        self.samples.close()
        self._taken_before += self.status.get("records", 0)
        self._lost_before.update({**self.status.get("lost", {}), "killed": 0})  # which the next one counts on
        self.status = {}
        if time.monotonic() - self._begun_s > _STEADY_S:
            self._pause_s = _FIRST_S
        _log.warning("the watch %s; another one is started in %g s: serving goes on", reason, self._pause_s)
        self._loop.call_later(self._pause_s, self._start_again)
        self._pause_s = min(_LONGEST_S, self._pause_s * 2)

    def _start_again(self) -> None:
        if not self._is_closed:
            self._start()

    def _read(self) -> None:
        with suppress(BlockingIOError, InterruptedError):
            while message := self._ours.recv(MOST_PACKET_BYTES):
                if (whole := self._joining.add(message)) is not None:
                    self._take(orjson.loads(whole))

    def _take(self, told: Mapping[str, Any]) -> None:  # JSON
        if "status" in told:
            self.status = told["status"]
            if not self._watch_cpu_s:  # the first word of this one: what its start took is no cost of looking
                started_s = float(self.status["cpu_s"])
                self._before = self._before._replace(watch_s=started_s, looking_s=0.0, taking_s=0.0)
            self._watch_cpu_s = float(self.status["cpu_s"])
        elif "answer" in told:
            answered = self._questions.get(told["answer"]["number"])
            if answered is not None and not answered.done():
                _settle(answered, told["answer"])


def _settle(answered: asyncio.Future[Any], told: Mapping[str, Any]) -> None:  # JSON
    if "error" in told:
        kind = _REFUSALS.get(told["kind"], NotReady)
        answered.set_exception(kind(told["error"], hint=told["hint"]))
    else:
        answered.set_result(told["value"])
