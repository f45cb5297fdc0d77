"""One inference over HTTP: from its body to an ask, from the reply to its answer."""

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from ferryman.core.errors import FerrymanError
from ferryman.server.data.ask import Ask, Reply
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.gate.caller import sticky_name
from ferryman.server.data.http.head import read_request_id
from ferryman.server.data.http.request import Request, Respond, Response
from ferryman.server.data.shares import Share
from ferryman.server.data.v2.addresses import Address
from ferryman.server.data.v2.asking import Asked, Decoder, decode
from ferryman.server.data.v2.errors import internal, refusal
from ferryman.server.data.v2.instances import ItemInstances, TensorInstances, encode_predictions
from ferryman.server.data.v2.journal import About, Journal
from ferryman.server.data.v2.messages import TensorRequest, encode_answers, encode_tensors
from ferryman.server.data.v2.rows import encode_share

_BYTES = b"application/octet-stream"
_STICKY = b"x-ferryman-key"
_LARGE_BYTES = 1024 * 1024
_MANY_VALUES = 65536


@dataclass(frozen=True, slots=True)
class Desk:
    """Hold what all questions need: who decodes (`beside`: large ones), who answers, who notes it, and the time."""

    loop: asyncio.AbstractEventLoop
    dataplane: Dataplane
    journal: Journal
    decoder: Decoder
    beside: Executor
    request_s: float


class Question:
    """Be one request for an inference; `put` once, the rest follows."""

    __slots__ = ("_address", "_asked", "_decoding", "_desk", "_is_dropped", "_request", "_respond", "_trace_id", "ask")

    def __init__(self, request: Request, address: Address, respond: Respond, desk: Desk) -> None:
        self.ask: Ask | None = None
        self._request = request
        self._address = address
        self._respond = respond
        self._desk = desk
        self._asked: Asked | None = None
        self._trace_id = ""
        self._decoding: asyncio.Future[Asked] | None = None
        self._is_dropped = False

    def put(self) -> None:
        """Decode the body and ask the model; a large one beside the loop."""
        request, address, desk = self._request, self._address, self._desk
        headers, body = request.head.headers, request.body
        try:
            served = desk.dataplane.known(address.model, address.version)
            if len(body) > _LARGE_BYTES:
                self._decoding = desk.loop.run_in_executor(desk.beside, decode, headers, body, served)
                self._decoding.add_done_callback(self._put_later)
            else:
                self._submit(desk.decoder.decode(headers, body, served))
        except FerrymanError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            self._finish(internal(error), None, FerrymanError(str(error)))

    def drop(self) -> None:
        """Know that nobody waits for the answer: it is not sent to a model any more."""
        self._is_dropped = True
        if self._decoding is not None:
            self._decoding.cancel()  # where it still waits for its turn, its bytes are free
        ask = self.ask
        if ask is None or not ask.is_settled:
            if ask is not None:
                ask.give_up()
            self._desk.journal.gone(self._request, self._about())
        self._request.note = None

    def _put_later(self, decoded: "asyncio.Future[Asked]") -> None:
        if self._is_dropped or decoded.cancelled():
            return
        try:
            self._submit(decoded.result())
        except FerrymanError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            self._finish(internal(error), None, FerrymanError(str(error)))

    def _submit(self, asked: Asked) -> None:
        address, request, desk = self._address, self._request, self._desk
        if asked.id is None:
            if request.head.request_id:
                asked = replace(asked, id=request.id)  # a copy: the decoder may know it as a form
        elif asked.id and not request.head.request_id:
            request.id = read_request_id(asked.id.encode())
        self._asked = asked
        arrived_s = request.arrived_s
        self.ask = ask = Ask(
            model=address.model,
            version=address.version,
            done=self._done,
            deadline_s=arrived_s + min(asked.timeout_s, desk.request_s),
            arrived_s=arrived_s,
            priority=asked.priority,
        )
        if isinstance(asked, TensorRequest):
            ask.tensors, ask.outputs = asked.inputs, asked.outputs
        else:
            ask.items, ask.rows = asked.items, len(asked.items)
        if desk.dataplane.is_split(address.model):
            ask.sticky = sticky_of(request)
        ask.trace, self._trace_id = desk.journal.begin(request.header(b"traceparent"), arrived_s)
        ask.id, ask.trace_id = asked.id or request.id, self._trace_id
        desk.dataplane.submit(ask)

    def _done(self, reply: Reply | None, error: FerrymanError | None) -> None:
        """Take what became of the ask."""
        asked = self._asked
        if reply is None or asked is None:
            self._fail(error or FerrymanError("no answer"))
            return
        try:
            answer = _short(asked, reply)
            if answer is None and _is_large(asked, reply):
                encoding = self._desk.loop.run_in_executor(None, _response, asked, reply)
                encoding.add_done_callback(lambda done: self._finish_later(reply, done))
                return
            response = Response(200, answer) if answer is not None else _response(asked, reply)
        except Exception as failure:  # noqa: BLE001 - the boundary of a request
            self._spoil(failure, reply)
        else:
            self._finish(response, reply, None)

    def _spoil(self, failure: BaseException, reply: Reply) -> None:
        """Tell that an answer can't be put into the form that was asked for."""
        error = failure if isinstance(failure, FerrymanError) else FerrymanError(str(failure))
        self._finish(refusal(error) if error is failure else internal(failure), reply, error)

    def _finish_later(self, reply: Reply, encoded: "asyncio.Future[Response]") -> None:
        failure = encoded.exception()
        if failure is None:
            self._finish(encoded.result(), reply, None)
        else:
            self._spoil(failure, reply)

    def _fail(self, error: FerrymanError) -> None:
        self._finish(refusal(error), None, error)

    def _finish(self, response: Response, reply: Reply | None, error: FerrymanError | None) -> None:
        self._respond(response)
        self._desk.journal.answered(self._request, response, error, self._about())
        self.ask = None  # they hold each other
        self._request.note = None  # they hold each other, and with them the body, until the collector comes

    def _about(self) -> About:
        asked, ask, model = self._asked, self.ask, self._address.model
        request_id = asked.id or self._request.id if asked is not None else self._request.id
        version, span = (ask.version_asked, ask.trace) if ask is not None else ("", None)
        version = version or self._address.version or self._desk.dataplane.active(model) or ""
        return About(model, version, request_id, self._trace_id, span)


def _short(asked: Asked, reply: Reply) -> bytes | None:
    """Give an answer that was spelled with others of its call, where it was."""
    outputs = reply.outputs
    if type(outputs) is not Share or type(asked) is not TensorRequest or not reply.is_finite:
        return None
    if asked.outputs is not None or asked.is_binary_by_default:
        return None
    return encode_share(outputs, asked.id, name=reply.model, version=reply.version)


def _is_large(asked: Asked, reply: Reply) -> bool:
    """Tell that an answer has so many numbers to spell that others would wait for it."""
    if not isinstance(asked, TensorRequest) or reply.outputs is None:
        return False
    return any(array.size > _MANY_VALUES and not asked.is_binary(name) for name, array in reply.outputs.items())


def _response(asked: Asked, reply: Reply) -> Response:
    if isinstance(asked, ItemInstances | TensorInstances):
        return Response(200, encode_predictions(asked, reply))
    if type(asked) is not TensorRequest or reply.outputs is None:
        return Response(200, encode_answers(reply.answers or (), asked.id, name=reply.model, version=reply.version))
    outputs = reply.outputs
    if asked.outputs is not None:
        outputs = {name: outputs[name] for name in asked.outputs}
    answer, blobs = encode_tensors(asked, outputs, name=reply.model, version=reply.version, is_finite=reply.is_finite)
    if not blobs:
        return Response(200, answer)
    length = (b"inference-header-content-length", b"%d" % len(answer))
    return Response(200, (answer, *blobs), _BYTES, (length,))


def sticky_of(request: Request) -> str:
    """Give what keeps a request's caller on one side of a canary."""
    key = request.header(_STICKY)
    if key is not None:
        return key.decode("latin-1")
    return sticky_name(request.caller)
