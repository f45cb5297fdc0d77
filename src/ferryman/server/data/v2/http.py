"""The Open Inference Protocol V2 over HTTP: the application behind every connection.

At the same address as tensors, POST a picture's bytes, or {"rows": [...]}, to get answers in the task's own words.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from ferryman.core.errors import FerrymanError, Forbidden, Overloaded, UserError
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.gate.caller import Action
from ferryman.server.data.gate.gate import Gate
from ferryman.server.data.http.request import Listener, Request, Respond, Response, Stream
from ferryman.server.data.v2.addresses import Address, Addresses, Route
from ferryman.server.data.v2.asking import Decoder, check_content_type
from ferryman.server.data.v2.errors import internal, refusal
from ferryman.server.data.v2.journal import Journal
from ferryman.server.data.v2.pages import INDEX, Pages
from ferryman.server.data.v2.question import Question
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


class HttpV2:
    """Admit requests and answer them."""

    def __init__(self, dataplane: Dataplane, gate: Gate, pages: Pages, journal: Journal, rules: Rules) -> None:
        self._loop = asyncio.get_running_loop()
        self._dataplane = dataplane
        self._gate = gate
        self._pages = pages
        self._journal = journal
        self._request_s = rules.request_s
        self._decoder = Decoder()
        self._beside = ThreadPoolExecutor(1, "decode")  # JSON holds the interpreter: more threads would not be faster
        self._is_local = rules.is_local
        self._addresses = Addresses(pages.addresses(), rules.routes)
        self._tasks: set[asyncio.Task[None]] = set()

    def admit(self, request: Request, length: int | None) -> Response | None:
        """Refuse by the headers alone: unknown addresses and callers, full queues, bodies that can't be read."""
        try:
            if self._is_local:
                _check_host(request)
            request.note = address = self._addresses.find(request.method, request.path)
            action = self._action_of(address, request.path)
            if action != "open":
                self._let_in(request, address, action)
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
                request.note = question = Question(request, address, respond, self._dataplane, self._journal)
                question.put(self._loop, self._decoder, self._beside, self._request_s)
            elif address.handler is not None:
                task = self._loop.create_task(self._steer(request, address, respond))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                self._tell(request, self._pages.answer(request, address), respond)
        except FerrymanError as error:
            respond(self._refuse(request, error))
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            self._tell(request, internal(error), respond)

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

    def _let_in(self, request: Request, address: Address, action: Action = "infer") -> None:
        model = address.model or None
        request.caller = self._gate.admit(request.header, model, action, request.peer, request.certificate)

    def _action_of(self, address: Address, path: str) -> Action | Literal["open"]:
        if address.verb in ("infer", "stream"):
            return "infer"
        is_steering = address.verb == "control" and path != INDEX
        return "control" if is_steering else self._pages.action_of(path)

    def _check_room(self, address: Address) -> None:
        if not self._dataplane.is_asleep(address.model):
            lane = self._dataplane.find(address.model, address.version).lane
            if lane.is_full:
                raise Overloaded(
                    f"{lane.waiting} requests wait for model '{address.model}' already", hint="try again later"
                )

    async def _steer(self, request: Request, address: Address, respond: Respond) -> None:
        if address.handler is None:
            return
        try:
            response = await address.handler(request, address.parameters)
        except FerrymanError as error:
            response = refusal(error)
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            response = internal(error)
        self._tell(request, response, respond)

    def _tell(self, request: Request, response: Response, respond: Respond) -> None:
        respond(response)
        self._journal.answered(request, response, None)

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
