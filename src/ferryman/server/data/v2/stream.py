"""Frames over a WebSocket: each message asks the model, and the answers come back in the order of the frames.

A binary message is one encoded picture, a text message is what POST .../infer takes as JSON. `?policy=latest` drops
frames that came while the model was busy, but for the newest; `?policy=every` (the default) waits for room.
Each answer has the number of its frame, from 0, as `frame`, and the count of frames dropped so far as `dropped`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs

import orjson

from ferryman.core.errors import FerrymanError, InputError
from ferryman.server.data.ask import Ask, Reply
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.http.request import Request, Stream
from ferryman.server.data.models import Served
from ferryman.server.data.telling import words_of
from ferryman.server.data.v2.addresses import Address
from ferryman.server.data.v2.asking import Asked, decode
from ferryman.server.data.v2.errors import internal, status_of
from ferryman.server.data.v2.instances import ItemInstances, TensorInstances, encode_predictions
from ferryman.server.data.v2.journal import Journal
from ferryman.server.data.v2.messages import TensorRequest, encode_answers, encode_tensors, to_json
from ferryman.server.data.v2.question import sticky_of

_AHEAD = 2  # frames of one stream in work: one in the engine, one being decoded
_JSON = {b"content-type": b"application/json"}
_PICTURE = {b"content-type": b"application/octet-stream"}
_POLICIES = ("every", "latest")


@dataclass(frozen=True, slots=True)
class Ways:
    """Hold what frames need: where to ask and to note, who lets each one in (or raises), and the longest wait."""

    dataplane: Dataplane
    journal: Journal
    let_in: Callable[[], None]
    request_s: float


class FrameStream:
    """Answer the frames of one WebSocket, in order, a few at a time."""

    def __init__(self, ways: Ways, served: Served, address: Address, stream: Stream, request: Request) -> None:
        policy = parse_qs(request.query).get("policy", ["every"])[-1]
        if policy not in _POLICIES:
            raise InputError(f"policy {policy[:20]!r} is unknown", hint=f"one of {', '.join(_POLICIES)}")
        self._drops = policy == "latest"
        self._ways = ways
        self._sticky = sticky_of(request)
        self._id = request.id
        self._served = served
        self._address = address
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._next_frame = 0
        self._dropped = 0
        self._waiting: deque[tuple[int, str | bytes]] = deque()
        self._asked: deque[_Frame] = deque()
        self._is_paused = False

    @property
    def is_busy(self) -> bool:
        """Tell whether a frame waits for its answer."""
        return bool(self._asked or self._waiting)

    def on_message(self, payload: str | bytes) -> None:
        """Take one frame."""
        if self._drops and self._waiting and len(self._asked) >= _AHEAD:
            self._waiting.clear()
            self._dropped += 1
        self._waiting.append((self._next_frame, payload))
        self._next_frame += 1
        self._advance()

    def on_close(self) -> None:
        """Give up what is in work."""
        self._waiting.clear()
        asked, self._asked = self._asked, deque()
        for frame in asked:
            if frame.ask is not None:
                frame.ask.give_up()

    def _advance(self) -> None:
        while self._waiting and len(self._asked) < _AHEAD:
            number, payload = self._waiting.popleft()
            self._send(number, payload)
        is_full = bool(self._waiting) and not self._drops
        if is_full and not self._is_paused:
            self._is_paused = True
            self._stream.pause()
        elif not is_full and self._is_paused:
            self._is_paused = False
            self._stream.resume()

    def _send(self, number: int, payload: str | bytes) -> None:
        frame = _Frame(number)
        self._asked.append(frame)
        started_s = time.monotonic()

        def done(reply: Reply | None, error: FerrymanError | None) -> None:
            frame.ask = None  # they hold each other
            frame.answer = self._encode(asked, reply) if reply is not None else _failure(error)
            version = reply.version if reply is not None else self._served.version
            self._ways.journal.framed(self._served.name, version, error, time.monotonic() - started_s)
            self._deliver()

        try:
            self._ways.let_in()
            body = payload.encode() if isinstance(payload, str) else payload
            asked = decode(_JSON if isinstance(payload, str) else _PICTURE, body, self._served)
            ask = Ask(self._address.model, self._address.version, done, arrived_s=started_s, priority=asked.priority)
            ask.deadline_s = started_s + min(asked.timeout_s, self._ways.request_s)
            ask.id = asked.id = asked.id or f"{self._id}-{number}"
            ask.sticky, ask.transport = self._sticky, "websocket"
            if isinstance(asked, TensorRequest):
                ask.tensors, ask.outputs = asked.inputs, asked.outputs
            else:
                ask.items, ask.rows = asked.items, len(asked.items)
            frame.ask = ask
        except FerrymanError as error:
            frame.answer = _failure(error)
            self._ways.journal.framed(self._served.name, self._served.version, error, time.monotonic() - started_s)
            self._loop.call_soon(self._deliver)
            return
        self._ways.dataplane.submit(ask)

    def _encode(self, asked: Asked, reply: Reply) -> bytes:
        try:
            return self._answer(asked, reply)
        except FerrymanError as error:
            return _failure(error)
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            internal(error)
            return _failure(None)

    def _answer(self, asked: Asked, reply: Reply) -> bytes:
        if isinstance(asked, ItemInstances | TensorInstances):
            return encode_predictions(asked, reply)
        if not isinstance(asked, TensorRequest) or reply.outputs is None:
            return encode_answers(reply.answers or (), asked.id, name=reply.model, version=reply.version)
        outputs = reply.outputs if asked.outputs is None else {name: reply.outputs[name] for name in asked.outputs}
        if any(asked.is_binary(name) for name in outputs):
            return _failure(InputError("a stream answers in JSON", hint="leave binary_data out"))
        return encode_tensors(asked, outputs, name=reply.model, version=reply.version, is_finite=reply.is_finite)[0]

    def _deliver(self) -> None:
        while self._asked and self._asked[0].answer is not None:
            frame = self._asked.popleft()
            head = b'{"frame":%d,"dropped":%d,' % (frame.number, self._dropped)
            self._stream.send_text((head + (frame.answer or b"{}")[1:]).decode())
        self._advance()


class _Frame:
    """Hold a frame's number and, once it is there, its answer."""

    __slots__ = ("answer", "ask", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.ask: Ask | None = None
        self.answer: bytes | None = None


def _failure(error: FerrymanError | None) -> bytes:
    if error is None or status_of(error) == 500:
        return orjson.dumps({"error": "internal error", "status": 500})
    return to_json({"error": words_of(error), "status": status_of(error)})
