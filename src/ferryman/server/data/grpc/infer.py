"""Inference calls: one request, or a stream of them, to the dataplane and back."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ferryman.core.errors import FerrymanError
from ferryman.server.data.ask import Ask, Reply
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.gate.caller import Action, sticky_name
from ferryman.server.data.grpc.call import Call
from ferryman.server.data.grpc.messages import InferResponse, StreamResponse
from ferryman.server.data.grpc.outbox import Part
from ferryman.server.data.grpc.status import OK, explain
from ferryman.server.data.grpc.tensors import InferenceRequest, decode_request, encode_reply, parse_request
from ferryman.server.data.grpc.wire import sized_field
from ferryman.server.data.request_ids import RequestIds
from ferryman.server.data.signals.spans import OpenSpan

_STICKY: Final = b"x-ferryman-key"
_UNSENT_BYTES: Final = 1024 * 1024  # of one stream, before its requests wait


Header = Callable[[bytes], bytes | None]


class Doorkeeper(Protocol):  # a Gate; Any: its own words for who calls, and ssl's for a certificate
    """Let calls in, or raise Unauthorized, Forbidden or RateLimited."""

    def known(self, header: Header, action: Action, certificate: Any, /) -> Any:
        """Refuse whom no model would let in; counts nothing."""

    def admit(self, header: Header, model: str | None, action: Action, peer: str, certificate: Any, /) -> Any:
        """Give who calls."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Hold what became of one request of a stream."""

    model: str
    version: str
    request_id: str
    arrived_s: float
    span: OpenSpan | None
    status: int
    error: Exception | None


def _untraced(traceparent: bytes | None, arrived_s: float) -> tuple[OpenSpan | None, str]:
    return None, ""


@dataclass(frozen=True, slots=True)
class InferSettings:
    """Bound requests, and say who begins their spans and who hears of those that a stream brought."""

    request_s: float = 60.0
    max_asks_per_stream: int = 64
    begin: Callable[[bytes | None, float], tuple[OpenSpan | None, str]] = _untraced
    answered: Callable[[Answered], None] = lambda answered: None


class Inference:
    """Answer ModelInfer and ModelStreamInfer."""

    def __init__(self, dataplane: Dataplane, gate: Doorkeeper, ways: InferSettings) -> None:
        self._loop = asyncio.get_running_loop()
        self._dataplane = dataplane
        self._gate = gate
        self._request_s = ways.request_s
        self._max_asks = ways.max_asks_per_stream
        self._begin = ways.begin
        self.answered = ways.answered
        self.ids = RequestIds()

    def answer(self, call: Call, message: Part) -> None:
        """Answer one request; raises FerrymanError for what can't be asked."""
        request, raw = self.parse(call, message)
        given = request.id or call.request_id
        call.request_id = given or self.ids.new()
        asked, ask = self.read(call, request, raw)
        ask.id, asked.id = call.request_id, given
        call.span = ask.trace

        def done(reply: Reply | None, error: FerrymanError | None) -> None:
            call.version = ask.version_asked or call.version
            if reply is None:
                call.fail(error or FerrymanError("no answer"))
                return
            try:
                parts = encode_reply(asked, reply)
            except Exception as failure:  # noqa: BLE001 - the boundary of a request
                call.fail(failure)
                return
            call.reply(*parts)

        def give_up() -> None:
            call.version = ask.version_asked or call.version
            ask.give_up()

        ask.done = done
        call.on_gone = give_up
        self._dataplane.submit(ask)

    def listen(self, call: Call) -> "InferenceStream":
        """Answer many requests in one call."""
        return InferenceStream(self, call, self._max_asks)

    def submit(self, ask: Ask) -> None:
        """Send an ask on its way."""
        self._dataplane.submit(ask)

    def parse(self, call: Call, message: Part) -> tuple[Any, list[memoryview]]:  # a ModelInferRequest
        """Read a message, and what of it is apart."""
        call.model = call.version = ""  # a stream's message before may have had others
        return parse_request(message)

    def read(self, call: Call, request: Any, raw: list[memoryview]) -> tuple[InferenceRequest, Ask]:  # as from `parse`
        """Let a request in, decode it, and make an ask without an end of it."""
        model = call.model = request.model_name
        header = call.head.metadata.get
        peer = call.connection.peer
        call.caller = caller = self._gate.admit(header, model or None, "infer", peer.address, peer.certificate)
        version = request.model_version
        call.version = self._dataplane.known(model, version or None).version
        asked = decode_request(request, raw)
        now_s = self._loop.time()
        ask = Ask(
            model=model,
            version=version or None,
            done=_nobody,
            tensors=asked.tensors,
            outputs=asked.outputs,
            deadline_s=min(call.deadline_s, now_s + min(asked.timeout_s, self._request_s)),
            arrived_s=now_s if call.is_stream else call.arrived_s,
            priority=asked.priority,
        )
        if self._dataplane.is_split(model):
            key = header(_STICKY)
            ask.sticky = key.decode("latin-1") if key is not None else sticky_name(caller)
        ask.trace, call.trace_id = self._begin(header(b"traceparent"), ask.arrived_s)
        ask.trace_id, ask.transport = call.trace_id, "grpc"
        return asked, ask


class InferenceStream:
    """Answer the requests of one stream in their order; as many as `max_asks` are in work at once."""

    def __init__(self, inference: Inference, call: Call, max_asks: int) -> None:
        self._inference = inference
        self._call = call
        self._max_asks = max_asks
        self._turns: deque[_Turn] = deque()
        self._is_held = self._has_ended = False
        call.on_gone = self._give_up

    def on_message(self, message: Part) -> None:
        """Take one request."""
        call, now_s = self._call, time.monotonic()
        turn = _Turn(self, len(message))
        self._turns.append(turn)
        try:
            request, raw = self._inference.parse(call, message)
            turn.request_id = request.id or self._inference.ids.new()
            turn.asked, ask = self._inference.read(call, request, raw)
            ask.id = turn.asked.id = turn.request_id
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            status, words = explain(error)
            self._inference.answered(Answered(call.model, call.version, turn.request_id, now_s, None, status, error))
            turn.settle([_failure(turn.request_id, words)])
            return
        turn.ask, turn.version = ask, call.version
        ask.done = turn.done
        self._inference.submit(ask)
        if self._is_full() and not self._is_held:
            self._is_held = True
            self._call.hold()

    def on_end(self) -> None:
        """End after the last answer."""
        self._has_ended = True
        if not self._turns:
            self._call.finish()

    def on_sent(self) -> None:
        """Go on where the client has read its answers."""
        if self._is_held and not self._is_full():
            self._is_held = False
            self._call.resume()

    @property
    def is_idle(self) -> bool:
        """Tell whether no request is in work."""
        return not self._turns

    def flush(self) -> None:
        """Send the answers whose turn has come."""
        while self._turns and (parts := self._turns[0].parts) is not None:
            turn = self._turns.popleft()
            self._call.send(*parts)
            if not self._call.is_over:
                self._call.release(turn.size_bytes)
        if self._has_ended and not self._turns:
            self._call.finish()
        else:
            self.on_sent()

    def _is_full(self) -> bool:
        return len(self._turns) >= self._max_asks or self._call.pending_bytes > _UNSENT_BYTES

    def _give_up(self) -> None:
        for turn in self._turns:
            if turn.ask is not None and not turn.ask.is_settled:
                turn.ask.give_up()
                self.note(turn, self._call.status, self._call.error)

    def note(self, turn: "_Turn", status: int, error: Exception | None) -> None:
        """Tell what became of a request."""
        ask = turn.ask
        if ask is not None:
            version = ask.version_asked or turn.version
            self._inference.answered(Answered(ask.model, version, ask.id, ask.arrived_s, ask.trace, status, error))


class _Turn:
    """Hold one request's place in the order of answers."""

    __slots__ = ("_stream", "ask", "asked", "parts", "request_id", "size_bytes", "version")

    def __init__(self, stream: InferenceStream, size_bytes: int) -> None:
        self._stream = stream
        self.size_bytes = size_bytes
        self.request_id = ""
        self.asked: InferenceRequest | None = None
        self.ask: Ask | None = None
        self.version = ""  # the one that was meant
        self.parts: list[bytes] | None = None

    def done(self, reply: Reply | None, error: FerrymanError | None) -> None:
        asked = self.asked
        failure: Exception | None = error
        if asked is None or reply is None:
            failure = failure or FerrymanError("no answer")
        else:
            try:
                parts = encode_reply(asked, reply)
            except Exception as fault:  # noqa: BLE001 - the boundary of a request
                failure = fault
        if failure is None:
            self._stream.note(self, OK, None)
            self.settle([sized_field(2, sum(map(len, parts))), *parts])
            return
        status, words = explain(failure)
        self._stream.note(self, status, failure)
        self.settle([_failure(self.request_id, words)])

    def settle(self, parts: list[bytes]) -> None:
        self.parts = parts
        self._stream.flush()


def _failure(request_id: str, words: str) -> bytes:
    answer: bytes = StreamResponse(error_message=words, infer_response=InferResponse(id=request_id)).SerializeToString()
    return answer


def _nobody(reply: Reply | None, error: FerrymanError | None) -> None:
    """Be the end of an ask that nobody waits for yet."""
