"""The Open Inference Protocol V2 over HTTP: translate requests for the dataplane, and its answers back.

At the same address as tensors, POST a picture's bytes, or {"rows": [...]}, to get answers in the task's own words.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from ferryman.core.errors import FerrymanError, Overloaded, TooLarge
from ferryman.server.data.ask import Ask, Reply
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.gate.gate import Gate
from ferryman.server.data.http.request import Listener, Request, Respond, Response, Stream
from ferryman.server.data.signals.access_log import AccessLog
from ferryman.server.data.signals.metrics import Metrics
from ferryman.server.data.signals.outcomes import outcome_of
from ferryman.server.data.v2.addresses import Address, Addresses
from ferryman.server.data.v2.asking import ItemsRequest, check_content_type, decode
from ferryman.server.data.v2.errors import internal, refusal
from ferryman.server.data.v2.messages import TensorRequest, encode_answers, encode_tensors
from ferryman.server.data.v2.pages import Pages
from ferryman.server.data.v2.stream import FrameStream

_BYTES = b"application/octet-stream"
_STICKY = b"x-ferryman-key"
_NO_HEADERS: Mapping[bytes, bytes] = {}


class HttpV2:
    """Be the application behind every HTTP connection: admit, answer, count and log."""

    def __init__(
        self,
        dataplane: Dataplane,
        gate: Gate,
        metrics: Metrics,
        pages: Pages,
        *,
        access_log: AccessLog | None,
        request_s: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._dataplane = dataplane
        self._gate = gate
        self._metrics = metrics
        self._pages = pages
        self._access_log = access_log
        self._request_s = request_s
        self._addresses = Addresses(pages.addresses())

    def admit(self, request: Request, length: int | None) -> Response | None:
        """Refuse by the headers alone: unknown addresses and callers, full queues, bodies that can't be read."""
        try:
            address = self._addresses.find(request.method, request.path)
            action = "infer" if address.verb in ("infer", "stream") else self._pages.action_of(request.path)
            request.note = address
            if action != "open":
                model = address.model or None
                request.caller = self._gate.admit(request.header, model, action, request.peer, request.certificate)
            if address.verb == "infer":
                self._check_room(address)
                check_content_type(dict(request.headers))
        except FerrymanError as error:
            return self._refuse(request, error)
        return None

    def answer(self, request: Request, respond: Respond) -> None:
        """Answer a request that has come whole."""
        address: Address = request.note
        try:
            if address.verb == "infer":
                self._infer(request, address, respond)
            else:
                self._pages.answer(request, address, self._logged(request, respond))
        except FerrymanError as error:
            respond(self._refuse(request, error))
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            self._note(request, address, internal_response := internal(error), None, error)
            respond(internal_response)

    def forget(self, request: Request) -> None:
        """Give up what a client that has left asked for: it is not sent to a model any more."""
        if isinstance(request.note, Ask):
            request.note.is_settled = True

    def open_stream(self, request: Request, stream: Stream) -> Listener | Response:
        """Take a WebSocket of frames for one model."""
        address: Address = request.note
        try:
            if address.verb != "stream":
                return refusal(TooLarge("this address takes no WebSocket"))
            served = self._dataplane.find(address.model, address.version)
        except FerrymanError as error:
            return self._refuse(request, error)
        return FrameStream(self._dataplane, self._metrics, served, address, stream, request)

    def _check_room(self, address: Address) -> None:
        if not self._dataplane.is_asleep(address.model):
            lane = self._dataplane.find(address.model, address.version).lane
            if lane.waiting >= lane.limits.max_waiting:
                raise Overloaded(
                    f"{lane.waiting} requests wait for model '{address.model}' already", hint="try again later"
                )

    def _infer(self, request: Request, address: Address, respond: Respond) -> None:
        headers = dict(request.headers)
        served = self._dataplane.known(address.model, address.version)
        asked = decode(headers, request.body, served)
        now_s = self._loop.time()
        ask = Ask(
            model=address.model,
            version=address.version,
            done=self._answerer(request, address, asked, respond),
            deadline_s=now_s + min(asked.timeout_s, self._request_s),
            arrived_s=request.arrived_s or now_s,
            priority=asked.priority,
        )
        if type(asked) is TensorRequest:
            ask.tensors, ask.outputs = asked.inputs, asked.outputs
        elif type(asked) is ItemsRequest:
            ask.items, ask.rows = asked.items, len(asked.items)
        if self._dataplane.is_split(address.model):
            ask.sticky = _sticky_of(headers, request)
        request.note = ask
        self._dataplane.submit(ask)

    def _answerer(
        self, request: Request, address: Address, asked: TensorRequest | ItemsRequest, respond: Respond
    ) -> Callable[[Reply | None, FerrymanError | None], None]:
        def done(reply: Reply | None, error: FerrymanError | None) -> None:
            try:
                response = _response(asked, reply) if reply is not None else None
            except Exception as failure:  # noqa: BLE001 - the boundary of a request
                response, error = internal(failure), FerrymanError(str(failure))
            if response is None and error is not None:
                response = refusal(error)
            if response is not None:
                respond(response)
                self._note(request, address, response, reply, error, asked)

        return done

    def _logged(self, request: Request, respond: Respond) -> Respond:
        def logged(response: Response) -> None:
            respond(response)
            self._note(request, request.note, response, None, None)

        return logged

    def _refuse(self, request: Request, error: FerrymanError) -> Response:
        response = refusal(error)
        address = request.note if isinstance(request.note, Address) else None
        if address is None or address.verb == "infer":
            self._metrics.rejected(outcome_of(error))
        self._note(request, address, response, None, error)
        return response

    def _note(
        self,
        request: Request,
        address: Address | None,
        response: Response,
        reply: Reply | None,
        error: BaseException | None,
        asked: TensorRequest | ItemsRequest | None = None,
    ) -> None:
        """Count and log one answered request."""
        seconds = self._loop.time() - request.arrived_s
        bytes_out = _size_of(response)
        model, version = (reply.model, reply.version) if reply is not None else (address.model if address else "", "")
        if address is not None and address.verb == "infer":
            figures = self._metrics.find(model, version or self._dataplane.active(model) or "")
            if figures is not None:
                figures.request(outcome_of(error), seconds, "http")
                figures.sizes(request.bytes_in, bytes_out)
        if self._access_log is not None:
            caller = request.caller.id if request.caller is not None else ""
            request_id = asked.id or "" if type(asked) is TensorRequest else ""
            self._access_log.note(
                (
                    time.time(), request.method, request.path, response.status, seconds, request.bytes_in, bytes_out,
                    model, version, caller, request.peer, request_id, "",
                )
            )  # fmt: skip


def _response(asked: TensorRequest | ItemsRequest, reply: Reply) -> Response:
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


def _sticky_of(headers: Mapping[bytes, bytes], request: Request) -> str:
    key = headers.get(_STICKY)
    if key is not None:
        return key.decode("latin-1")
    return request.caller.id if request.caller is not None else ""


def _size_of(response: Response) -> int:
    body = response.body
    if isinstance(body, bytes):
        return len(body)
    return sum(len(part) if isinstance(part, bytes) else part.nbytes for part in body)
