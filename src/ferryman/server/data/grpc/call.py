"""One call: its messages as they come, the answers as they go, and how it ends."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final, Protocol

from ferryman.core.errors import FerrymanError, InputError, TooLarge
from ferryman.server.data.ask import Gone
from ferryman.server.data.gate.caller import Action
from ferryman.server.data.grpc.frames import END_HEADERS, END_STREAM, HEADERS, frame
from ferryman.server.data.grpc.head import Head
from ferryman.server.data.grpc.inflate import ENCODINGS, inflate
from ferryman.server.data.grpc.outbox import Outbox, Part
from ferryman.server.data.grpc.peer import Peer
from ferryman.server.data.grpc.settings import GrpcSettings
from ferryman.server.data.grpc.status import CANCELLED, FINE, OK, START, Unimplemented, explain, named, trailers
from ferryman.server.data.http.head import REQUEST_ID, read_request_id
from ferryman.server.data.signals.spans import OpenSpan
from ferryman.server.data.telling import retry_after_s

_PREFIX: Final = Struct(">BL")
_INLINE_BYTES: Final = 4096  # compressed; more are unpacked beside the loop
_HEADERS_AHEAD: Final = frame(HEADERS, END_HEADERS, 0, START)[:5]
_LAST: Final = END_HEADERS | END_STREAM
_DATA_AHEAD: Final = Struct(">HBH4sBL")  # a DATA frame's header, then a message's prefix


class Carrier(Protocol):
    """Be the connection of calls."""

    settings: GrpcSettings
    outbox: Outbox
    peer: Peer

    def now_s(self) -> float:
        """Give the loop's time."""

    def forget(self, call: "Call") -> None:
        """Know that a call is over."""

    def replenish(self, call: "Call") -> None:
        """Let the client send more for a call."""


class Listener(Protocol):
    """Hear the messages of one streaming call."""

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing is in work, so that the stream may end when the server does."""

    def on_message(self, message: Part) -> None:
        """Take one message."""

    def on_end(self) -> None:
        """Know that the client has said all."""

    def on_sent(self) -> None:
        """Know that nothing waits to be sent any more."""


@dataclass(frozen=True, slots=True)
class Method:
    """Answer one kind of call: `answer` one message with `Call.reply`, or `listen` to many.

    Callers must be allowed to do the `action`; None is for everyone.
    """

    name: str
    action: Action | None
    answer: Callable[["Call", Part], None] | None = None
    listen: Callable[["Call"], Listener] | None = None


class Call:
    """Be one stream of a connection. Everything here is for the loop's thread, and nothing raises.

    `deadline_s` and `arrived_s` are times of the loop's clock. `on_gone` is called once where the call ends before its
    answer: given up by the client, cut, or too late.
    """

    __slots__ = (
        "_body", "_is_busy", "_listener", "_message", "_missing", "_prefix", "_waiting", "arrived_s", "bytes_in",
        "bytes_out", "caller", "connection", "deadline_s", "error", "has_ended", "has_started", "head", "held_bytes",
        "id", "is_over", "last_block", "method", "model", "on_gone", "pending", "pending_bytes", "quiet_since_s",
        "receive_window", "request_id", "span", "status", "trace_id", "version", "window",
    )  # fmt: skip

    def __init__(self, connection: Carrier, stream_id: int, head: Head, now_s: float) -> None:
        self.connection = connection
        self.id = stream_id
        self.head = head
        self.method: Method | None = None
        self.arrived_s = time.monotonic()  # the loop's own clock has milliseconds only
        self.quiet_since_s = now_s
        self.deadline_s = float("inf") if head.timeout_s is None else now_s + head.timeout_s
        self.caller: Any = None  # the gate's own
        self.model = self.version = self.trace_id = ""
        self.request_id = read_request_id(head.metadata.get(REQUEST_ID))
        self.span: OpenSpan | None = None
        self.error: Exception | None = None
        self.bytes_in = self.bytes_out = self.held_bytes = 0
        self.status = -1
        self.on_gone: Callable[[], None] | None = None
        self.receive_window = connection.settings.stream_window_bytes
        self.window = connection.outbox.first_window
        self.pending: deque[memoryview] = deque()
        self.pending_bytes = 0
        self.last_block: bytes | None = None
        self.has_started = False  # answering
        self.has_ended = False  # the client has said all
        self.is_over = False  # nothing more is taken or sent
        self._listener: Listener | None = None
        self._message: Part | None = None
        self._prefix = b""
        self._body: bytearray | None = None
        self._missing = 0  # of the message
        self._is_busy = False
        self._waiting: deque[tuple[int, Part]] = deque()

    @property
    def wants_more(self) -> bool:
        """Tell whether the client may send on."""
        return not (self._is_busy or self.has_ended or self.is_over)

    @property
    def is_receiving(self) -> bool:
        """Tell whether something is due from the client: the message, or the rest of one."""
        if self.is_over or self.last_block is not None:
            return False
        return self._body is not None or bool(self._prefix) or (self._listener is None and not self.has_ended)

    @property
    def is_stream(self) -> bool:
        """Tell whether many messages may come."""
        return self.method is not None and self.method.listen is not None

    @property
    def is_idle(self) -> bool:
        """Tell whether this is a stream with nothing in work."""
        return self._listener is not None and not self.pending and not self._waiting and self._listener.is_idle

    def open(self, method: Method) -> None:
        """Begin to take messages for a method; raises what it raises."""
        self.method = method
        if method.listen is not None:
            self._listener = method.listen(self)

    def take(self, chunk: Part) -> None:
        """Take bytes of the body."""
        if self.last_block is not None:
            return
        size = len(chunk)
        if self._body is None and not self._prefix and size >= 5:
            flag, length = _PREFIX.unpack_from(chunk)
            if length + 5 == size:
                if self._is_allowed(length) and self._count(length):
                    self._accept(flag, chunk[5:])
                return
        self._assemble(memoryview(chunk))

    def end(self) -> None:
        """Know that the client has said all."""
        self.has_ended = True
        if self._body is not None or self._prefix:
            self.fail(InputError("the call ended in the middle of a message"))
        elif not self._is_busy and not self._waiting:
            self._note_end()

    def hold(self) -> None:
        """Take no more messages for now: they wait, and then the client does."""
        self._is_busy = True

    def resume(self) -> None:
        """Go on with the messages that wait."""
        self._is_busy = False
        while self._waiting and not self._is_busy and not self.is_over:
            self._handle(*self._waiting.popleft())
        if self._is_busy or self.is_over:
            return
        if self.has_ended:
            self._note_end()
        else:
            self.connection.replenish(self)

    def release(self, size_bytes: int) -> None:
        """Count a message's bytes as no longer in work."""
        self.held_bytes -= size_bytes
        self.connection.settings.intake.give_back(size_bytes)

    def reply(self, message: bytes, *raw: Part) -> None:
        """Send the only answer, whose bytes may come in several parts, and end the call well."""
        size = len(message) + 5
        outbox = self.connection.outbox
        fits = size <= self.window and size <= outbox.window and size <= outbox.max_frame and not outbox.is_paused
        if raw or not fits or self.has_started or self.last_block is not None or self.is_over or not self.has_ended:
            self.send(message, *raw)
            self.finish()
            return
        stream = self.id.to_bytes(4, "big")
        ahead = _DATA_AHEAD.pack(size >> 8, size & 255, 0, stream, 0, size - 5)
        ending = frame(HEADERS, _LAST, self.id, FINE + named(self.request_id))
        outbox.window -= size
        self.bytes_out += size
        self.status = OK
        outbox.put(b"".join((_HEADERS_AHEAD, stream, START, ahead, message, ending)))
        self.close()

    def send(self, *parts: Part) -> None:
        """Send one message, whose bytes may come in several parts that must not change any more."""
        if self.is_over or self.last_block is not None:
            return
        size = sum(map(len, parts))
        outbox = self.connection.outbox
        if not self.has_started:
            self.has_started = True
            outbox.put(frame(HEADERS, END_HEADERS, self.id, START))
        was_quiet = not self.pending
        self.pending.append(memoryview(_PREFIX.pack(0, size)))
        self.pending += [memoryview(part) for part in parts if len(part)]
        self.pending_bytes += size + 5
        self.bytes_out += size + 5
        if was_quiet:
            self.quiet_since_s = self.connection.now_s()
            outbox.push(self)

    def finish(self, status: int = OK, message: str = "", retry_s: float | None = None) -> None:
        """End the call once all that was sent is through."""
        if self.is_over or self.last_block is not None:
            return
        self.status = status
        block = FINE if status == OK and not message else trailers(status, message, retry_s)
        block += named(self.request_id)
        self.last_block = block if self.has_started else START + block
        if status != OK:
            self._tell_gone()
        if not self.pending:
            self.connection.outbox.push(self)

    def fail(self, error: Exception) -> None:
        """End the call with an error."""
        if not self.is_over and self.last_block is None:
            self.error = error
            status, words = explain(error)
            self.finish(status, words, retry_after_s(error))

    def on_sent(self) -> None:
        """Pass on that nothing waits to be sent."""
        if self._listener is not None:
            self._listener.on_sent()

    def close(self) -> None:
        """Forget everything; what is still to be said isn't."""
        if self.is_over:
            return
        self.is_over = True
        if self.status < 0:
            self.status, self.error = CANCELLED, Gone("the client left before the answer")
        self._tell_gone()
        self.pending.clear()
        self._waiting.clear()
        self._body = self._message = self._listener = None
        if self.held_bytes:
            self.release(self.held_bytes)
        self.connection.forget(self)

    def _tell_gone(self) -> None:
        on_gone, self.on_gone = self.on_gone, None
        if on_gone is not None and self.status != OK:
            on_gone()

    def _is_allowed(self, size_bytes: int) -> bool:
        """Tell whether a message may be so large; fails the call where it may not."""
        limit = self.connection.settings.max_message_bytes
        if size_bytes > limit:
            hint = "send less, or serve with a larger --max-body-mb"
            self.fail(TooLarge(f"the message is larger than {limit} bytes", hint=hint))
        return size_bytes <= limit

    def _count(self, size_bytes: int) -> bool:
        """Count bytes that came (what a prefix declares costs its sender nothing); fails the call if too many."""
        try:
            self.connection.settings.intake.take(size_bytes)
        except FerrymanError as error:
            self.fail(error)
            return False
        self.held_bytes += size_bytes
        return True

    def _assemble(self, chunk: memoryview) -> None:
        start, size = 0, len(chunk)
        while start < size and not self.is_over and self.last_block is None:
            if self._body is None:
                more = chunk[start : start + 5 - len(self._prefix)]
                self._prefix += bytes(more)
                start += len(more)
                if len(self._prefix) < 5:
                    return
                _, length = _PREFIX.unpack(self._prefix)
                if not self._is_allowed(length):
                    return
                self._body, self._missing = bytearray(), length
                self.quiet_since_s = self.connection.now_s()
            body = self._body
            more = chunk[start : start + self._missing]
            if not self._count(len(more)):
                return
            body += more
            self._missing -= len(more)
            start += len(more)
            if not self._missing:
                flag, self._prefix, self._body = self._prefix[0], b"", None
                self._accept(flag, body)

    def _accept(self, flag: int, message: Part) -> None:
        if self._is_busy:
            self._waiting.append((flag, message))
        else:
            self._handle(flag, message)

    def _handle(self, flag: int, message: Part) -> None:
        if flag == 0:
            self._deliver(message)
        elif flag != 1 or self.head.encoding == b"identity":
            self.fail(InputError(f"a message has compression flag {flag} in a call whose encoding is 'identity'"))
        elif self.head.encoding not in ENCODINGS:
            self.fail(
                Unimplemented(
                    f"encoding {self.head.encoding.decode('latin-1')!r:.40} can't be read", hint="send gzip or identity"
                )
            )
        elif len(message) <= _INLINE_BYTES:
            self._guard(lambda: self._inflated(message, inflate(message, self.connection.settings.max_message_bytes)))
        else:
            self._inflate_beside(message)

    def _inflate_beside(self, message: Part) -> None:
        self.hold()
        loop = asyncio.get_running_loop()
        limit = self.connection.settings.max_message_bytes

        def done(future: asyncio.Future[bytearray]) -> None:
            if future.cancelled() or self.is_over:
                future.cancelled() or future.exception()
                return
            if error := future.exception():
                self.fail(error if isinstance(error, Exception) else InputError("the message can't be unpacked"))
                return
            self._is_busy = False
            self._inflated(message, future.result())
            if not self._is_busy:
                self.resume()

        loop.run_in_executor(None, inflate, message, limit).add_done_callback(done)

    def _inflated(self, message: Part, inflated: bytearray) -> None:
        if self._count(max(len(inflated) - len(message), 0)):
            self._deliver(inflated)

    def _deliver(self, message: Part) -> None:
        if self._listener is not None:
            listener = self._listener
            self._guard(lambda: listener.on_message(message))
        elif self._message is not None:
            self.fail(InputError("this call takes one message, and a second one came"))
        else:
            self._message = message

    def _note_end(self) -> None:
        if self.is_over or self.last_block is not None:
            return
        if self._listener is not None:
            self._guard(self._listener.on_end)
            return
        message, method = self._message, self.method
        if message is None or method is None or method.answer is None:
            self.fail(InputError("the call has no message"))
            return
        self._message = None
        try:
            method.answer(self, message)
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            self.fail(error)

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            self.fail(error)
