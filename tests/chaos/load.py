"""Callers over HTTP, in a thread of their own: patient ones in a closed loop, or arrivals at a rate."""

import asyncio
import json
import random
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, cast

import uvloop

from tests.chaos.counts import Counts
from tests.chaos.questions import Question
from tests.server.running import wait_until

ANSWER_S = 60.0
_CONNECT_S = 20.0


@dataclass(frozen=True)
class Answer:
    """Hold one whole answer."""

    status: int
    head: bytes
    body: bytes

    @property
    def closes(self) -> bool:
        """Tell whether the server ends the connection with it."""
        return b"\r\nconnection: close" in self.head

    @property
    def is_refusal(self) -> bool:
        """Tell whether it says no, and when to come back."""
        return self.status in (429, 503) and b"\r\nretry-after:" in self.head


class Caller(asyncio.Protocol):
    """Be one keep-alive connection; `ask` gives None where the answer never came."""

    def __init__(self) -> None:
        self.is_open = False
        self._received = bytearray()
        self._waiting: asyncio.Future[Answer | None] | None = None
        self._transport: asyncio.Transport | None = None

    async def ask(self, request: bytes) -> Answer | None:
        """Send a whole request and wait."""
        self._waiting = asyncio.get_running_loop().create_future()
        if self._transport is not None and self.is_open:
            self._transport.write(request)
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._waiting
        except TimeoutError:
            self.close()
            return None

    def close(self) -> None:
        """Hang up."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.is_open = cast(asyncio.Transport, transport), True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._give(None)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = bytes(self._received).partition(b"\r\n\r\n")
        if not separator:
            return
        lowered = head.lower()
        length = int(lowered.partition(b"\r\ncontent-length:")[2].split(b"\r\n")[0] or b"0")
        if len(body) >= length:
            self._received.clear()
            answer = Answer(int(head[9:12]), lowered, body)
            if answer.closes:
                self.is_open = False
            self._give(answer)

    def _give(self, answer: Answer | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)


@dataclass(frozen=True)
class Target:
    """Say where and how to ask; `headers` are whole lines, `leaves_when_refused` ends a caller who can't connect.

    TLS is `tls` over HTTP, and `roots` with a `client`'s key and chain over gRPC.
    """

    port: int
    headers: str = ""
    tls: ssl.SSLContext | None = None
    roots: bytes = b""
    client: tuple[bytes, bytes] | None = None
    leaves_when_refused: bool = False
    server_may_die: bool = False


class HttpLoad:
    """Ask again and again while the block lasts: so many callers, each with `pause_s` between two questions.

    With `rate_rps` they don't wait for answers: questions come at that rate, over as many connections as it takes, up
    to `callers`.
    """

    def __init__(
        self, target: Target, questions: Callable[[int], Question], *, callers: int = 8, pause_s: float = 0.004,
        rate_rps: float = 0.0,
    ) -> None:  # fmt: skip
        self.counts = Counts()
        self.target = target
        self.headers = target.headers  # may be changed while it runs
        self.versions: list[str] = []  # in the order in which they first answered
        self._questions = questions
        self._callers = callers
        self._pause_s = pause_s
        self._rate_rps = rate_rps
        self._asked = 0
        self._is_stopping = False
        self._crash: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="load")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._crash is not None:
            raise self._crash

    def stop(self) -> None:
        """Ask no more, and wait for the last answers."""
        self._is_stopping = True
        self.wait_until_left()

    def hurt(self) -> None:
        """Know that the harm is done now."""
        self.counts.hurt()

    def wait_for_answers(self, more: int, *, timeout_s: float = ANSWER_S) -> None:
        """Return when so many more were answered right."""
        until = self.counts.answered + more
        wait_until(lambda: self.counts.answered >= until or self._crash is not None, timeout_s=timeout_s)

    def wait_until_left(self) -> None:
        """Return when every caller has gone, because nobody takes its connection any more."""
        self._thread.join(2 * ANSWER_S)
        assert not self._thread.is_alive(), "a caller hangs"

    def _run(self) -> None:
        try:
            uvloop.run(self._work())
        except BaseException as error:  # noqa: BLE001 - the boundary of a thread: raised at the block's end
            self._crash = error

    async def _work(self) -> None:
        asyncio.get_running_loop().set_exception_handler(self._note_crash)
        await (self._arrive() if self._rate_rps else self._patiently())

    def _note_crash(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # asyncio's own words
        self._crash = context.get("exception") or RuntimeError(context["message"])
        self._is_stopping = True

    async def _patiently(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._callers):
                group.create_task(self._call())

    async def _call(self) -> None:
        caller: Caller | None = None
        while not self._is_stopping:
            if caller is None or not caller.is_open:
                caller = await self._connect()
                if caller is None:
                    if self.target.leaves_when_refused:
                        return
                    await asyncio.sleep(0.02)
                    continue
            await self._ask(caller)
            await asyncio.sleep(self._pause_s)
        if caller is not None:
            caller.close()

    async def _arrive(self) -> None:
        """Let questions come by chance, at the rate, whatever becomes of those before."""
        loop = asyncio.get_running_loop()
        free: list[Caller] = []
        busy: set[asyncio.Task[None]] = set()
        chance = random.Random(7)
        next_s = loop.time()

        async def one() -> None:
            caller = free.pop() if free else await self._connect()
            if caller is not None:
                await self._ask(caller)
                if caller.is_open:
                    free.append(caller)

        while not self._is_stopping:
            next_s += chance.expovariate(self._rate_rps)
            await asyncio.sleep(max(next_s - loop.time(), 0))
            if len(busy) < self._callers:
                begun: Coroutine[None, None, None] = one()
                busy.add(task := loop.create_task(begun))
                task.add_done_callback(busy.discard)
        await asyncio.gather(*busy)
        for caller in free:
            caller.close()

    async def _connect(self) -> Caller | None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_S):
                _, caller = await loop.create_connection(
                    Caller, "127.0.0.1", self.target.port, ssl=self.target.tls,
                    server_hostname="localhost" if self.target.tls else None,
                )  # fmt: skip
        except (OSError, TimeoutError):
            self.counts.unheard += 1
            return None
        return caller

    async def _ask(self, caller: Caller) -> None:
        counts = self.counts
        self._asked += 1
        question = self._questions(self._asked)
        if not caller.is_open:  # closed meanwhile: nothing was sent
            return
        counts.sent += 1
        started_s = time.monotonic()
        answer = await caller.ask(question.http(self.headers))
        took_s = time.monotonic() - started_s
        if answer is None:
            caller.close()
            if self.target.server_may_die:
                counts.cut += 1
            else:
                counts.lost += 1
            counts.trouble("no answer")
        elif answer.status == 200:
            self._judge(question, answer, took_s)
        elif answer.is_refusal:
            counts.refuse(took_s)
        else:
            counts.fail(str(answer.status), answer.body.decode("utf-8", "replace"))

    def _judge(self, question: Question, answer: Answer, took_s: float) -> None:
        content = json.loads(answer.body)
        version = content["model_version"]
        if version not in self.versions:
            self.versions.append(version)
        if question.is_right(version, content["outputs"][0]["data"]):
            self.counts.answer(took_s)
        else:
            self.counts.wrong += 1
            self.counts.trouble(f"wrong: {question.values} {answer.body!r}")
