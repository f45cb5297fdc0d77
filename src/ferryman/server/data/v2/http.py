"""The Open Inference Protocol V2 over HTTP: the application behind every connection.

At the same address as tensors, POST a picture's bytes, or {"rows": [...]}, to get answers in the task's own words.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

from ferryman.core.errors import FerrymanError, Forbidden, NotFound, Overloaded, UserError
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.gate.caller import Action
from ferryman.server.data.gate.gate import Gate
from ferryman.server.data.http.request import Listener, Request, Respond, Response, Stream
from ferryman.server.data.v2.addresses import Address, Addresses, Route
from ferryman.server.data.v2.asking import Decoder, check_content_type
from ferryman.server.data.v2.errors import internal, refusal
from ferryman.server.data.v2.journal import About, Journal
from ferryman.server.data.v2.pages import INDEX, Pages
from ferryman.server.data.v2.question import Desk, Question
from ferryman.server.data.v2.stream import FrameStream, Ways

_LOCAL = frozenset((b"localhost", b"127.0.0.1", b"[::1]"))


@dataclass(frozen=True, slots=True)
class Rules:
    """Say what an address offers beside the protocol, and the longest that a request may take.

    With `is_local` only who calls this machine by its own name is answered: a web page whose name was made to lead here
    (DNS rebinding) can't steer the server.
    """

    routes: Sequence[Route] = ()
    request_s: float = 60.0
    is_local: bool = False


@dataclass(frozen=True, slots=True)
class _Known:
    """Hold what a head means, for the next request that comes with it."""

    address: Address
    action: Action | Literal["open"]


class HttpV2:
    """Admit requests and answer them."""

    def __init__(self, dataplane: Dataplane, gate: Gate, pages: Pages, journal: Journal, rules: Rules) -> None:
        self._loop = asyncio.get_running_loop()
        self._dataplane = dataplane
        self._gate = gate
        self._pages = pages
        self._journal = journal
        self._request_s = rules.request_s
        self._beside = ThreadPoolExecutor(1, "decode")  # JSON holds the interpreter: more threads would not be faster
        self._desk = Desk(self._loop, dataplane, journal, Decoder(), self._beside, rules.request_s)
        self._is_local = rules.is_local
        self._addresses = Addresses(pages.addresses(), rules.routes, pages.clouds.infer)
        self._tasks: set[asyncio.Task[None]] = set()

    def admit(self, request: Request, length: int | None) -> Response | None:
        """Refuse by the headers alone: unknown addresses and callers, full queues, bodies that can't be read."""
        try:
            if self._is_local:
                _check_host(request)
            head = request.head
            known: _Known | None = head.note
            if known is None:
                address = request.note = self._addresses.find(head.method, head.path)
                known = _Known(address, self._action_of(address, head.path))
            request.note = address = self._of_only_model(request, known.address)
            if known.action != "open":
                self._let_in(request, address, known.action)
            if address.verb == "infer":
                self._check_room(address)
                if head.note is None or not known.address.model:
                    check_content_type(head.headers, self._dataplane.known(address.model, address.version))
            head.note = known
        except FerrymanError as error:
            return self._refuse(request, error)
        return None

    def answer(self, request: Request, respond: Respond) -> None:
        """Answer a request that has come whole."""
        address: Address = request.note
        try:
            if address.verb == "infer":
                request.note = question = Question(request, address, respond, self._desk)
                question.put()
            elif address.handler is not None:
                task = self._loop.create_task(self._steer(request, address, respond))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                self._tell(request, address, self._pages.answer(request, address), respond)
        except FerrymanError as error:
            respond(self._refuse(request, error))
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            self._tell(request, address, internal(error), respond)

    def forget(self, request: Request) -> None:
        """Give up what a client that has left asked for."""
        if isinstance(request.note, Question):
            request.note.drop()

    def open_stream(self, request: Request, stream: Stream) -> Listener | Response:
        """Take a WebSocket of frames for one model."""
        address: Address = request.note
        try:
            if address.verb != "stream":
                raise UserError("this address takes no WebSocket", hint="/v2/models/MODEL/stream does")
            served = self._dataplane.find(address.model, address.version)
            ways = Ways(self._dataplane, self._journal, lambda: self._let_in(request, address), self._request_s)
            return FrameStream(ways, served, address, stream, request)
        except FerrymanError as error:
            return self._refuse(request, error)

    def close(self) -> None:
        """Free the thread."""
        self._beside.shutdown(wait=False, cancel_futures=True)

    def _of_only_model(self, request: Request, address: Address) -> Address:
        """Name the model where an address means the only one; raises NotFound where there are others."""
        if address.model or address.verb != "infer":
            return address
        try:
            return replace(address, model=self._dataplane.only_model())
        except NotFound:
            self._gate.known(request.header, "infer", request.certificate)  # who may not ask is told nothing
            raise

    def _let_in(self, request: Request, address: Address, action: Action = "infer") -> None:
        model = address.model or None
        request.caller = self._gate.admit(request.header, model, action, request.peer, request.certificate)
        if action == "read":
            request.reach = self._gate.known(request.header, action, request.certificate).models

    def _action_of(self, address: Address, path: str) -> Action | Literal["open"]:
        if address.verb in ("infer", "stream"):
            return "infer"
        is_steering = address.verb == "control" and path != INDEX
        return "control" if is_steering else self._pages.action_of(path)

    def _check_room(self, address: Address) -> None:
        lane = self._dataplane.known(address.model, address.version).lane
        if lane.is_full:
            raise Overloaded(
                f"{lane.waiting} requests wait for model '{address.model}' already", hint="try again later"
            )

    async def _steer(self, request: Request, address: Address, respond: Respond) -> None:
        if address.handler is not None:
            self._tell(request, address, await address.handler(request, address.parameters), respond)

    def _tell(self, request: Request, address: Address, response: Response, respond: Respond) -> None:
        respond(response)
        self._journal.answered(request, response, None, About(address.model))

    def _refuse(self, request: Request, error: FerrymanError) -> Response:
        response = refusal(error)
        model = request.note.model if isinstance(request.note, Address) else ""
        self._journal.refused(request, response, error, model)
        return response


def _check_host(request: Request) -> None:
    host = request.header(b"host") or b""
    name = host if host.endswith(b"]") else host.rpartition(b":")[0] or host
    if name.lower() not in _LOCAL:
        raise Forbidden("this address answers as localhost only", hint="http://127.0.0.1:PORT")
