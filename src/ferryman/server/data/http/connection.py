"""One HTTP/1.1 connection: bytes to requests, answers to bytes, one request in work at a time."""

import asyncio
import time
from functools import partial

from ferryman.core.errors import FerrymanError
from ferryman.server.data.http.body import FIRST_BYTES, SizedBody
from ferryman.server.data.http.chunks import Chunks
from ferryman.server.data.http.compress import Inflater, compress, is_worth
from ferryman.server.data.http.connections import Connections
from ferryman.server.data.http.head import END, Head, Refusal, check_start
from ferryman.server.data.http.limits import LARGER
from ferryman.server.data.http.refused import Refused
from ferryman.server.data.http.reply import CONTINUE, lines_of, refusal
from ferryman.server.data.http.request import Request, Response
from ferryman.server.data.http.websocket import WebSocket, accept_upgrade
from ferryman.server.data.http.wire import BODY, CLOSE, CLOSED, FRESH, HEAD, IDLE, SKIP, WORK, Wire
from ferryman.server.data.telling import incident_of

_SKIPPED_BYTES = 64 * 1024  # so much of a refused body is read to keep the connection
_KEEP = b"connection: keep-alive\r\n"


class HttpConnection(Wire):
    """Speak HTTP/1.1 with one client."""

    __slots__ = ("_body", "_head", "_held", "_request", "_request_id")

    def __init__(self, house: Connections) -> None:
        super().__init__(house)
        self._head: Head
        self._request: Request | None = None  # admitted, and neither answered nor forgotten
        self._body: Chunks | SizedBody | None = None
        self._request_id = ""  # of the request that is answered next
        self._held = 0  # bytes counted by the intake

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        phase = self._phase
        if phase > WORK:
            self._throw_away(data)
            return
        self._buffer = self._buffer + data if self._buffer else data
        if phase <= HEAD:
            self._read()
        elif phase == BODY:
            self._read_chunks()
            self._read_on()
        else:
            self._pause()

    def eof_received(self) -> bool | None:
        """Take the end of the client's words for its leaving: nobody could tell the two apart."""
        return False

    def _read(self) -> None:
        """Read requests until one is in work or not whole."""
        self._is_reading = True
        while self._at < len(self._buffer) and self._phase <= HEAD and not self._is_stalled:
            buffer, start = self._buffer, self._at
            end = buffer.find(END, start) + 4
            if end < 4 or buffer[start] == 13:
                if not self._wait_for_head():
                    break
                continue
            try:
                head = self._house.head(buffer[start:end])
            except Refusal as error:
                self._refuse(error.status, str(error))
                break
            self._at = end
            self._begin(head)
        self._is_reading = False
        self._trim()
        if self._buffer and self._phase == WORK:
            self._pause()

    def _trim(self) -> None:
        if self._at:
            self._buffer = self._buffer[self._at :]
            self._at = 0

    def _wait_for_head(self) -> bool:
        """Give whether there is more to read now, though no head is whole."""
        self._trim()
        if self._buffer.startswith(b"\r\n"):  # some clients end a body with a line of its own
            self._buffer = self._buffer[2:]
            return True
        if self._phase != HEAD:
            self._since_s = self._since_s if self._phase == FRESH else self._loop.time()
            self._phase = HEAD
        try:
            if self._buffer != b"\r":
                check_start(self._buffer, self._house.limits)
        except Refusal as error:
            self._refuse(error.status, str(error))
        return False

    def _begin(self, head: Head) -> None:
        """Admit one request and get its body."""
        self._head = head
        arrived_s = time.monotonic()  # the loop's own clock has milliseconds only
        bytes_in = head.size_bytes + (head.length or 0)
        request = self._request = Request(head, self._peer, b"", arrived_s, bytes_in, self._certificate)
        self._request_id = request.id = head.request_id or self._house.ids.new()
        refused = self._admit(head, request)
        if refused is not None:
            self._request = None
            self._answer_early(refused)
        elif head.upgrades:
            self._open_stream(head, request)
        else:
            self._begin_body(head, request)

    def _admit(self, head: Head, request: Request) -> Response | None:
        if head.origin is not None:
            refused = self._house.origins.refuse(head)
            if refused is not None:
                return refused
        try:
            return self._house.application.admit(request, head.length)
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            return _internal(error)

    def _open_stream(self, head: Head, request: Request) -> None:
        """Become a WebSocket, if the application takes it."""
        try:
            upgrade = accept_upgrade(head)
            stream = WebSocket(self._house)
            opened = self._house.application.open_stream(request, stream)
        except Refusal as error:
            self._refuse(error.status, str(error), (b"sec-websocket-version", b"13"))
            return
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            opened = _internal(error)
        self._request = None
        if isinstance(opened, Response):
            self._answer_early(opened)
            return
        self._trim()
        received, self._buffer = self._buffer, b""
        self._phase = CLOSED
        self._house.members.discard(self)
        stream.begin(self._transport, opened, upgrade, received)

    def _begin_body(self, head: Head, request: Request) -> None:
        """Have the body in hand at once, or wait for it."""
        length = head.length
        if length == 0:
            self._work(request)
        elif not self._has_room(length):
            return
        elif length is not None and len(self._buffer) - self._at >= length:
            end = self._at + length
            request.body = self._buffer[self._at : end]
            self._at = end
            self._work(request)
        else:
            self._wait_for_body(head, length)

    def _has_room(self, length: int | None) -> bool:
        """Count a body's bytes, or refuse it."""
        if length is None:
            return True
        if length > self._house.limits.body_bytes:
            self._refuse_body(413, f"the body is larger than {self._house.limits.body_bytes} bytes; {LARGER}")
            return False
        has_come = len(self._buffer) - self._at >= length
        at_first = length if has_come else min(length, FIRST_BYTES)  # the rest is only a promise
        try:
            self._house.intake.take(at_first)
        except FerrymanError as error:
            self._refuse_body(429, f"{error}; {error.hint}")
            return False
        self._held = at_first
        return True

    def _may_grow(self, more_bytes: int) -> bool:
        """Count more bytes of a body that comes, or refuse it."""
        try:
            self._house.intake.take(more_bytes)
        except FerrymanError as error:
            self._refuse(429, f"{error}; {error.hint}")
            return False
        self._held += more_bytes
        return True

    def _wait_for_body(self, head: Head, length: int | None) -> None:
        self._phase, self._since_s = BODY, self._loop.time()
        self._trim()
        if head.expects_continue and not self._buffer:
            self._transport.write(CONTINUE)
        if length is None:
            self._body = Chunks(self._house.limits.body_bytes)
            self._read_chunks()
        elif length > FIRST_BYTES:
            first, self._buffer = self._buffer, b""
            self._body = SizedBody(self, length, self._may_grow, self._take_body)
            self._body.begin(self._transport, first)

    def _read_chunks(self) -> None:
        """Read what came of a body that is not streamed."""
        body = self._body
        request = self._request
        if request is None:
            return
        if not isinstance(body, Chunks):
            length = self._head.length or 0
            if len(self._buffer) >= length:
                request.body = self._buffer[:length]
                self._buffer = self._buffer[length:]
                self._work(request)
            return
        try:
            self._buffer = body.feed(self._buffer)
            self._house.intake.take(len(body.body) - self._held)
            self._held = len(body.body)
        except Refusal as error:
            self._refuse(error.status, str(error))
        except FerrymanError as error:
            self._refuse(429, f"{error}; {error.hint}")
        else:
            if body.is_done:
                request.bytes_in += body.size
                self._take_body(body.body)

    def _take_body(self, body: bytearray) -> None:
        self._body = None
        if self._request is not None:
            self._request.body = body
            self._work(self._request)

    def _work(self, request: Request) -> None:
        """Have a request answered."""
        self._phase = WORK
        if self._head.encoding and request.body:
            self._inflate(request, Inflater(request.body, self._head.encoding, self._house.limits.body_bytes))
        else:
            self._answer(request)

    def _answer(self, request: Request) -> None:
        try:
            self._house.application.answer(request, partial(self._respond, request))
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            self._respond(request, _internal(error))

    def _inflate(self, request: Request, inflater: Inflater) -> None:
        """Inflate the body: a little here, more in a thread."""
        limit = self._house.limits.body_bytes
        try:
            if inflater.step():
                self._take_inflated(request, inflater.body)
                return
            self._house.intake.take(limit - self._held)  # as much as it may become
            self._held = limit
        except Refusal as error:
            self._refuse_whole(request, error.status, str(error))
        except FerrymanError as error:
            self._refuse_whole(request, 429, f"{error}; {error.hint}")
        else:
            inflating = self._loop.run_in_executor(None, inflater.rest)
            inflating.add_done_callback(partial(self._inflated, request))

    def _inflated(self, request: Request, inflating: asyncio.Future[bytearray]) -> None:
        error = inflating.exception()
        if request is not self._request:
            return
        if isinstance(error, Refusal):
            self._refuse_whole(request, error.status, str(error))
        elif error is not None:
            self._respond(request, _internal(error))
        else:
            self._take_inflated(request, inflating.result())

    def _take_inflated(self, request: Request, body: bytearray) -> None:
        try:
            self._house.intake.take(len(body) - self._held)
        except FerrymanError as error:
            self._refuse_whole(request, 429, f"{error}; {error.hint}")
            return
        self._held = len(body)
        request.body = body
        self._answer(request)

    def _refuse_whole(self, request: Request, status: int, message: str) -> None:
        """Refuse an admitted request whose body has come."""
        self._note_refused(status, message)
        self._house.application.forget(request)
        self._respond(request, refusal(status, message))

    def _respond(self, request: Request, response: Response) -> None:
        """Send the answer, unless the client has gone or has one."""
        if request is not self._request:
            return
        encoding = self._head.accepts
        if encoding and is_worth(response):
            packing = self._loop.run_in_executor(None, compress, response, encoding)
            packing.add_done_callback(partial(self._packed, request))
            return
        self._finish(response)

    def _packed(self, request: Request, packing: asyncio.Future[Response]) -> None:
        error = packing.exception()
        if request is self._request:
            self._finish(_internal(error) if error is not None else packing.result())

    def _finish(self, response: Response) -> None:
        if self._request is not None:
            self._request_id, self._request = self._request.id, None
        if self._held:
            self._house.intake.give_back(self._held)
            self._held = 0
        self._send(response, closes=response.closes)
        self._read_on()

    def _send(self, response: Response, *, closes: bool) -> None:
        """Write an answer, and be ready for the next request, or close."""
        head = self._head
        closes = closes or not head.keeps_alive or self._house.is_draining
        connection = CLOSE if closes else _KEEP if head.is_http_10 else b""
        if self._request_id:
            connection += b"x-request-id: %b\r\n" % self._request_id.encode()
        if head.origin is not None:
            connection += lines_of(self._house.origins.headers(head))
        try:
            parts = self._house.renderer.render(response, connection, is_head=head.method == "HEAD")
        except ValueError as error:
            parts = self._house.renderer.render(_internal(error), connection, is_head=False)
        if len(parts) == 1:
            self._transport.write(parts[0])
        else:
            self._transport.writelines(parts)
        self._since_s = self._loop.time()
        if closes:
            self._close_softly()
        else:
            self._phase = IDLE

    def _answer_early(self, response: Response) -> None:
        """Answer a request whose body nobody reads."""
        self._trim()
        length = self._head.length
        is_unclear = length is None or length > _SKIPPED_BYTES or (self._head.expects_continue and length > 0)
        self._send(response, closes=response.closes or is_unclear)
        if self._phase == IDLE and length:
            self._phase, self._skip = SKIP, length
            came, self._buffer = self._buffer, b""
            self._throw_away(came)

    def _refuse_body(self, status: int, message: str) -> None:
        """Refuse an admitted request before its body is read."""
        self._note_refused(status, message)
        self._forget()
        self._answer_early(refusal(status, message))

    def _read_on(self) -> None:
        """Go on where reading stopped while a request was in work."""
        if self._is_reading:
            return
        if self._buffer and self._phase <= HEAD and not self._is_stalled:
            self._read()
        if self._is_paused and not self._is_stalled and not (self._phase == WORK and self._buffer):
            self._is_paused = False
            self._transport.resume_reading()

    def _is_slow(self, waited_s: float) -> bool:
        body, length = self._body, self._head.length
        came = body.received if isinstance(body, SizedBody) else self._held if body else len(self._buffer)
        if length is not None and length <= FIRST_BYTES:
            return False  # small ones have their time
        return came < waited_s * self._house.limits.slowest_bytes_per_s

    def _note_refused(self, status: int, reason: str) -> None:
        request = self._request
        method, path = (request.method, request.path) if request is not None else ("", "")
        self._house.refuse(Refused(str(status), status, reason, self._peer, method, path))

    def _forget(self) -> None:
        if isinstance(self._body, SizedBody):
            self._body.leave()
        self._body = None
        self._house.intake.give_back(self._held)
        self._held = 0
        request, self._request = self._request, None
        if request is not None:
            self._house.application.forget(request)


def _internal(error: BaseException) -> Response:
    return refusal(500, incident_of(error))
