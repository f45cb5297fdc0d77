"""Payloads on their way to the watch: chosen by rule, bounded, and sent when the watch takes them."""

import asyncio
import logging
import math
import socket
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

import orjson

from ferryman.core.errors import FerrymanError
from ferryman.core.recording import PayloadsSection
from ferryman.core.signature import Array
from ferryman.core.task import Answer, Item
from ferryman.monitor.store.sampling import LENGTHS, PayloadRules
from ferryman.server.data.ask import Ask, Gone, Reply
from ferryman.server.data.wording import DATATYPES

_MOST_WAITING_BYTES = 64_000_000
_MOST_TENSOR_BYTES = 1_000_000  # of one request and its answer: they are written as JSON beside serving
_SHOWN = 0.25  # a box of a lower score is none
_log = logging.getLogger("ferryman.server")

Key = tuple[str, str]


class Samples:
    """Choose payloads as requests end, and send them; use it from the server's loop. Nothing here waits or raises.

    What finds no room among the 64 MB that may wait is dropped, and counted in `lost`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.lost: Counter[str] = Counter()
        self.sent = 0
        """How many the watch that runs now was sent."""
        self.drifted: Callable[[], Collection[Key]] = tuple
        self._loop = loop
        self._rules: dict[Key, tuple[PayloadsSection, PayloadRules]] = {}
        self._waiting: deque[tuple[bytes, bytes]] = deque()
        self._waiting_bytes = 0
        self._socket: socket.socket | None = None
        self._sending: asyncio.Task[None] | None = None

    def use(self, sections: Mapping[Key, PayloadsSection]) -> None:
        """Choose by these rules from now on, each version by its own."""
        if {key: section for key, (section, _) in self._rules.items()} != sections:
            self._rules = {key: (section, PayloadRules(section)) for key, section in sections.items()}

    def open(self, far: socket.socket) -> None:
        """Send through this socket, which is closed with it: to a watch that has just begun."""
        self.close()
        far.setblocking(False)
        self._socket, self.sent = far, 0
        self._wake()

    def close(self) -> None:
        """Send no more; what waits stays for the next watch."""
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def finish(self, within_s: float) -> None:
        """Let what waits be sent, for so long at most; what is left is lost."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._sending is not None and not self._sending.done():
                    await asyncio.wait([self._sending])
        self.lost["payload_left"] += len(self._waiting)
        self.close()

    def heard(
        self, ask: Ask, name: str, version: str, reply: Reply | None, error: FerrymanError | None, seconds: float
    ) -> None:
        """Take one ended ask, as an observer of the dataplane."""
        known = self._rules.get((name, version))
        if known is None or ask.is_probe or isinstance(error, Gone):
            return
        section, rules = known
        answers = reply.answers if reply is not None else None
        needs_answers = section.low_confidence is not None and answers is not None
        why = rules.why(
            ask.id,
            confidence=confidence_of(answers) if needs_answers and answers is not None else None,
            is_drifted=section.drifted and (name, version) in self.drifted(),
            is_error=error is not None,
        )
        if why:
            about = {"id": ask.id, "model": name, "version": version, "why": why}
            for kind, payload in self._payloads(ask, reply):
                self._put(orjson.dumps({**about, "kind": kind}), payload)

    def _payloads(self, ask: Ask, reply: Reply | None) -> list[tuple[str, bytes]]:
        if ask.items:
            return _of_items(ask.items, reply.answers if reply is not None else None)
        tensors, outputs = ask.tensors or {}, (reply.outputs if reply is not None else None) or {}
        if sum(array.nbytes for array in (*tensors.values(), *outputs.values())) > _MOST_TENSOR_BYTES:
            self.lost["payload_tensors_large"] += 1
            return []
        found = [("tensors", _as_json("inputs", tensors))] if tensors else []
        return [*found, ("answer", _as_json("outputs", outputs))] if outputs else found

    def _put(self, about: bytes, payload: bytes) -> None:
        size = len(about) + len(payload)
        if self._waiting_bytes + size > _MOST_WAITING_BYTES:
            self.lost["payload_queue_full"] += 1
            return
        self._waiting.append((about, payload))
        self._waiting_bytes += size
        self._wake()

    def _wake(self) -> None:
        if self._socket is not None and self._waiting and (self._sending is None or self._sending.done()):
            self._sending = self._loop.create_task(self._send(self._socket))

    async def _send(self, far: socket.socket) -> None:
        while self._waiting:
            about, payload = self._waiting[0]
            try:
                await self._loop.sock_sendall(far, LENGTHS.pack(len(about), len(payload)) + about)
                await self._loop.sock_sendall(far, payload)
            except OSError as error:  # it has ended: the next one gets this one again
                _log.debug("payloads wait for the watch: %s", error)
                return
            self._waiting.popleft()
            self._waiting_bytes -= len(about) + len(payload)
            self.sent += 1


def confidence_of(answers: Sequence[Answer]) -> float:
    """Give the least confidence of several answers, each as `answer.confidence` has it; NaN where none has one."""
    found = [_confidence(answer) for answer in answers]
    return min((each for each in found if not math.isnan(each)), default=math.nan)


def _confidence(answer: Answer) -> float:
    scores = answer.get("scores", answer.get("probabilities")) if isinstance(answer, Mapping) else None
    listed = scores.values() if isinstance(scores, Mapping) else scores if isinstance(scores, Sequence) else ()
    known = [float(score) for score in listed if isinstance(score, int | float)]
    if "boxes" not in answer:
        return max(known, default=math.nan)
    shown = [score for score in known if score >= _SHOWN]
    return math.fsum(shown) / len(shown) if shown else math.nan


def _of_items(items: Sequence[Item], answers: Sequence[Answer] | None) -> list[tuple[str, bytes]]:
    """Give what is kept of items, by kind: pictures as they were sent, rows as JSON, and the answer."""
    found = [("picture", bytes(item)) for item in items if isinstance(item, bytes | bytearray)]
    rows = [item for item in items if isinstance(item, Mapping)]
    try:
        if rows:
            found.append(("row", orjson.dumps({"rows": rows}, option=orjson.OPT_SERIALIZE_NUMPY)))
        if found and answers is not None:
            text = getattr(answers, "text", None)  # a worker's answers are JSON already
            listed = text if text is not None else orjson.dumps(list(answers))
            found.append(("answer", b'{"answers":%b}' % listed))
    except TypeError:  # of no JSON
        return [each for each in found if each[0] != "row"]
    return found


def _as_json(about: str, tensors: Mapping[str, Array]) -> bytes:
    """Write tensors as the V2 protocol has them in JSON."""
    told = [
        {
            "name": name,
            "datatype": DATATYPES.get(array.dtype.name, "BYTES"),
            "shape": array.shape,
            "data": array.ravel().tolist(),
        }
        for name, array in tensors.items()
    ]
    return orjson.dumps({about: told}, default=lambda value: bytes(value).decode("utf-8", "replace"))
