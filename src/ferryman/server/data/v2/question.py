"""One inference over HTTP: from its body to an ask, from the reply to its answer."""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import Executor

from ferryman.core.errors import FerrymanError
from ferryman.server.data.ask import Ask, Reply
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.gate.caller import sticky_name
from ferryman.server.data.http.request import Request, Respond, Response
from ferryman.server.data.signals.spans import OpenSpan
from ferryman.server.data.v2.addresses import Address
from ferryman.server.data.v2.asking import Asked, Decoder, decode
from ferryman.server.data.v2.errors import internal, refusal
from ferryman.server.data.v2.journal import About, Journal
from ferryman.server.data.v2.messages import TensorRequest, encode_answers, encode_tensors

_BYTES = b"application/octet-stream"
_STICKY = b"x-ferryman-key"
_LARGE_BYTES = 1024 * 1024
_MANY_VALUES = 65536


class Question:
    """Be one request for an inference; `ask` once, the rest follows."""

    __slots__ = (
        "_address", "_asked", "_dataplane", "_decoding", "_is_dropped", "_journal", "_loop", "_request", "_request_s",
        "_respond", "_span", "_trace_id", "ask",
    )  # fmt: skip

    def __init__(
        self, request: Request, address: Address, respond: Respond, dataplane: Dataplane, journal: Journal
    ) -> None:
        self.ask: Ask | None = None
        self._request = request
        self._address = address
        self._respond = respond
        self._dataplane = dataplane
        self._journal = journal
        self._asked: Asked
        self._loop: asyncio.AbstractEventLoop
        self._span: OpenSpan | None = None
        self._trace_id = ""
        self._decoding: asyncio.Future[Asked] | None = None
        self._is_dropped = False

    def put(self, loop: asyncio.AbstractEventLoop, decoder: Decoder, beside: Executor, request_s: float) -> None:
        """Decode the body and ask the model; a large one beside the loop."""
        self._loop, self._request_s = loop, request_s
        headers = dict(self._request.headers)
        try:
            served = self._dataplane.known(self._address.model, self._address.version)
            if len(self._request.body) > _LARGE_BYTES:
                self._decoding = decoding = loop.run_in_executor(beside, decode, headers, self._request.body, served)
                decoding.add_done_callback(lambda done: self._put_later(headers, done))
            else:
                self._submit(headers, decoder.decode(headers, self._request.body, served))
        except FerrymanError as error:
            self._fail(error)

    def drop(self) -> None:
        """Know that nobody waits for the answer: it is not sent to a model any more."""
        self._is_dropped = True
        if self._decoding is not None:
            self._decoding.cancel()  # where it still waits for its turn, its bytes are free
        ask = self.ask
        if ask is not None and not ask.is_settled:
            ask.give_up()
            about = About(self._address.model, ask.version_asked, trace_id=self._trace_id, span=self._span)
            self._journal.gone(self._request, about)

    def _put_later(self, headers: Mapping[bytes, bytes], decoded: "asyncio.Future[Asked]") -> None:
        if self._is_dropped or decoded.cancelled():
            return
        try:
            self._submit(headers, decoded.result())
        except FerrymanError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            self._finish(internal(error), None, FerrymanError(str(error)))

    def _submit(self, headers: Mapping[bytes, bytes], asked: Asked) -> None:
        self._asked = asked
        now_s = time.monotonic()
        address, request = self._address, self._request
        ask = Ask(
            model=address.model,
            version=address.version,
            done=self._done,
            deadline_s=(request.arrived_s or now_s) + min(asked.timeout_s, self._request_s),
            arrived_s=request.arrived_s or now_s,
            priority=asked.priority,
        )
        if isinstance(asked, TensorRequest):
            ask.tensors, ask.outputs = asked.inputs, asked.outputs
        else:
            ask.items, ask.rows = asked.items, len(asked.items)
        if self._dataplane.is_split(address.model):
            ask.sticky = sticky_of(headers, request)
        self._span, self._trace_id = self._journal.begin(headers.get(b"traceparent"), ask.arrived_s)
        ask.trace = self._span
        self.ask = ask
        self._dataplane.submit(ask)

    def _done(self, reply: Reply | None, error: FerrymanError | None) -> None:
        """Take what became of the ask."""
        if reply is None:
            self._fail(error or FerrymanError("no answer"))
        elif _is_large(self._asked, reply):
            encoding = self._loop.run_in_executor(None, _response, self._asked, reply)
            encoding.add_done_callback(lambda done: self._finish_later(reply, done))
        else:
            try:
                response = _response(self._asked, reply)
            except Exception as failure:  # noqa: BLE001 - the boundary of a request
                self._finish(internal(failure), reply, FerrymanError(str(failure)))
            else:
                self._finish(response, reply, None)

    def _finish_later(self, reply: Reply, encoded: "asyncio.Future[Response]") -> None:
        failure = encoded.exception()
        if failure is None:
            self._finish(encoded.result(), reply, None)
        else:
            self._finish(internal(failure), reply, FerrymanError(str(failure)))

    def _fail(self, error: FerrymanError) -> None:
        self._finish(refusal(error), None, error)

    def _finish(self, response: Response, reply: Reply | None, error: FerrymanError | None) -> None:
        self._respond(response)
        asked = getattr(self, "_asked", None)
        request_id = asked.id or "" if isinstance(asked, TensorRequest) else ""
        model, named = self._address.model, self._address.version
        ask, self.ask = self.ask, None  # they hold each other
        version = reply.version if reply is not None else ask.version_asked if ask is not None else ""
        version = version or named or self._dataplane.active(model) or ""
        about = About(model, version, request_id, self._trace_id, self._span)
        self._journal.answered(self._request, response, error, about)


def _is_large(asked: Asked, reply: Reply) -> bool:
    """Tell that an answer has so many numbers to spell that others would wait for it."""
    if type(asked) is not TensorRequest or reply.outputs is None:
        return False
    return any(array.size > _MANY_VALUES and not asked.is_binary(name) for name, array in reply.outputs.items())


def _response(asked: Asked, reply: Reply) -> Response:
    if type(asked) is not TensorRequest or reply.outputs is None:
        return Response(200, encode_answers(reply.answers or (), name=reply.model, version=reply.version))
    outputs = reply.outputs
    if asked.outputs is not None:
        outputs = {name: outputs[name] for name in asked.outputs}
    answer, blobs = encode_tensors(asked, outputs, name=reply.model, version=reply.version, is_finite=reply.is_finite)
    if not blobs:
        return Response(200, answer)
    length = (b"inference-header-content-length", b"%d" % len(answer))
    return Response(200, (answer, *blobs), _BYTES, (length,))


def sticky_of(headers: Mapping[bytes, bytes], request: Request) -> str:
    """Give what keeps a request's caller on one side of a canary."""
    key = headers.get(_STICKY)
    if key is not None:
        return key.decode("latin-1")
    return sticky_name(request.caller)
