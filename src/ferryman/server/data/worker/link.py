"""The server's side of a worker: jobs go out, replies come back, and what is lost with a worker is told at once."""

import asyncio
import os
import socket
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ferryman.core.errors import FerrymanError, NotReady
from ferryman.server.data.job import Job, Loaded
from ferryman.server.data.look import Look
from ferryman.server.data.worker.arena import Arena, make_arena_file, map_arena
from ferryman.server.data.worker.asking import Result, read_results, write_items, write_tensors
from ferryman.server.data.worker.order import Order, read_loaded, write_order
from ferryman.server.data.worker.parcel import Parcel
from ferryman.server.data.worker.wire import (
    DONE,
    FAILED,
    LOAD,
    LOADED,
    NOTED,
    RELEASE,
    RUN,
    Frame,
    FrameReader,
    decode_error,
    decode_json,
    encode_frame,
    encode_json,
)
from ferryman.server.data.worker.zygote import Child, Zygote

_ARENA_BYTES = 1 << 30
_MOST_INLINE_BYTES = 4096
_AUTOPSY_S = 1.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True, eq=False)
class _Running:
    """Hold a job that the worker has: its block of shared memory (-1: none), and the asks that were refused before.

    `is_noted` where the worker will say what it saw.
    """

    job: Job
    block: int
    refused: Mapping[int, FerrymanError]
    is_noted: bool = False


@dataclass(slots=True, eq=False)
class _Looking:
    """Hold a look whose answers are given, and the block that the worker still reads."""

    look: Look
    block: int


class Worker(asyncio.Protocol):
    """Hold one worker process. Use it from one event loop.

    `on_free` is called whenever `free` grew. `on_lost` is called once, with the reason, where the worker ends after it
    has loaded and nobody asked it to with `stop`; its asks have failed with NotReady by then.
    """

    def __init__(
        self,
        zygote: Zygote,
        *,
        on_free: Callable[[], None],
        on_lost: Callable[[str], None],
        arena_bytes: int = _ARENA_BYTES,
    ) -> None:
        self.free = 0
        self._zygote = zygote
        self._on_free = on_free
        self._on_lost = on_lost
        self._arena_bytes = arena_bytes
        self._questions: Arena | None = None
        self._answers = memoryview(b"")
        self._child: Child | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._reader = FrameReader()
        self._running: dict[int, _Running] = {}
        self._looking: dict[int, _Looking] = {}
        self._last_number = 0
        self._loading: asyncio.Future[Loaded] | None = None
        self._is_loaded = False
        self._is_stopping = False
        self._is_lost = False
        self._is_told = False
        self._reason = ""
        self._ended: asyncio.Event = asyncio.Event()

    @property
    def pid(self) -> int:
        """Give the process id; 0 before it is forked."""
        return self._child.pid if self._child else 0

    def rss_bytes(self) -> int:
        """Give the resident memory, what it shares with others included; 0 where it has ended."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as stream:
                return int(stream.read().split()[1]) * _PAGE_BYTES
        except (OSError, IndexError):
            return 0

    def private_bytes(self) -> int:
        """Give what it took since it was forked: no files, no arenas, which fill as requests grow; 0 at its end."""
        return max(0, _anonymous_bytes(self.pid) - _anonymous_bytes(self._zygote.pid))

    def oldest_job_s(self, now: float) -> float:
        """Give the age of the oldest job inside, 0 where it is idle; `now` is of the loop's clock."""
        for running in self._running.values():
            return now - running.job.started_s
        return 0.0

    async def load(self, order: Order, *, deadline_s: float) -> Loaded:
        """Fork a process and load a bundle in it.

        Raises what the worker raised (NotReady for a wrong golden answer), NotReady where it died or took too long.
        """
        loop = self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._loading = loop.create_future()
        self._instances = order.instances
        ours = self._hatch()
        try:
            async with asyncio.timeout(deadline_s):
                await loop.create_unix_connection(lambda: self, sock=ours)
                self._send(encode_frame(LOAD, 0, encode_json(write_order(order))))
                loaded = await self._loading
        except TimeoutError:
            self.kill()
            raise NotReady(f"it did not load within {deadline_s:g} s", hint="is the machine busy?") from None
        except BaseException:
            self.kill()
            self._loading.cancel()  # nobody waits for it any more
            raise
        return loaded

    def run(self, job: Job) -> None:
        """Send a job; its asks are settled later, never from within this call."""
        job.started_s = self._loop.time()
        self.free = max(self.free - 1, 0)
        self._last_number = number = (self._last_number + 1) & 0xFFFFFFFF
        if self._is_lost or not self._is_loaded:
            self._running[number] = _Running(job, -1, {})
            self._loop.call_soon(self._settle, number, [_lost_error(self._reason) for _ in job.asks])
            return
        block = -1
        try:
            parcel = Parcel()
            refused: Mapping[int, FerrymanError] = {}
            if job.asks[0].tensors is not None:
                meta = write_tensors(job.asks, parcel)
            else:
                meta, refused = write_items(job.asks, parcel)
            if job.look is not None:
                meta["k"] = 1
            block = self._send_job(number, meta, parcel)
            self._running[number] = _Running(job, block, refused, job.look is not None)
        except Exception as error:  # noqa: BLE001 - of a request: its asks are settled, whatever is wrong with them
            self._running[number] = _Running(job, -1, {})
            reason = error if isinstance(error, FerrymanError) else FerrymanError(f"a job can't be sent: {error!r}")
            self._loop.call_soon(self._settle, number, [reason for _ in job.asks])

    async def stop(self, *, deadline_s: float) -> None:
        """Let it finish the jobs that it has, and end it; kill it where that takes too long."""
        self._is_stopping = True
        self.free = 0
        if self._child is None:
            return
        if self._transport is not None and not self._is_lost:
            self._transport.write_eof()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(deadline_s):
                    await self._ended.wait()
        except asyncio.CancelledError:
            self.kill()
            raise
        if not self._ended.is_set():
            self._zygote.kill(self._child)
            self._lose("was stopped before it had finished")
            with suppress(TimeoutError):
                async with asyncio.timeout(_AUTOPSY_S):
                    await self._ended.wait()

    def kill(self) -> None:
        """End it at once; its asks fail with NotReady."""
        if self._child is not None:
            self._zygote.kill(self._child)
        self._lose("was killed")

    def data_received(self, data: bytes) -> None:
        """Take what the worker wrote."""
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except (ValueError, LookupError, TypeError) as error:
            self._reason = f"wrote what no worker writes ({error})"
            self.kill()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Know the way out."""
        self._transport = cast(asyncio.WriteTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what was inside; how the process ended is told a moment later."""
        self._lose("")

    def _hatch(self) -> socket.socket:
        """Give the server's end of the link to a new process."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        files = [make_arena_file(self._arena_bytes) for _ in range(2)]
        try:
            self._questions = Arena(files[0], self._arena_bytes)
            self._answers = map_arena(files[1])
            self._child = self._zygote.fork([theirs.fileno(), *files], self._exited)
        finally:
            theirs.close()
            for file in files:
                os.close(file)
        return ours

    def _send_job(self, number: int, meta: dict[str, Any], parcel: Parcel) -> int:  # JSON
        size = parcel.size_bytes
        if size <= _MOST_INLINE_BYTES:
            inline = bytearray(size)
            parcel.write_to(memoryview(inline))
            self._send(encode_frame(RUN, number, encode_json(meta), size) + inline)
            return -1
        arena = self._questions
        if arena is None:
            raise _lost_error(self._reason)
        block = arena.allocate(size)
        try:
            parcel.write_to(arena.buffer[block : block + size])
            meta["b"], meta["z"] = block, size
            self._send(encode_frame(RUN, number, encode_json(meta)))
        except BaseException:
            arena.free(block)
            raise
        return block

    def _send(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame)

    def _take(self, frame: Frame) -> None:
        if frame.kind == DONE:
            self._take_answers(frame)
        elif frame.kind == NOTED:
            self._take_note(frame)
        elif frame.kind == LOADED and self._loading is not None and not self._loading.done():
            loaded = read_loaded(decode_json(frame.meta))
            # One more than the engine takes at once: it is prepared while the others run.
            self.free = (self._instances if loaded.releases_gil else 1) + 1
            self._is_loaded = True
            self._loading.set_result(loaded)
        elif frame.kind == FAILED and self._loading is not None and not self._loading.done():
            self._loading.set_exception(decode_error(decode_json(frame.meta)))

    def _take_answers(self, frame: Frame) -> None:
        running = self._running[frame.number]
        meta = decode_json(frame.meta)
        block = meta.get("b", -1)
        payload = frame.payload if block < 0 else self._borrow(block, meta["z"])
        results = read_results(running.job.asks, meta, payload)
        for place, error in running.refused.items():
            results[place] = error
        self._settle(frame.number, results)

    def _take_note(self, frame: Frame) -> None:
        looking = self._looking.pop(frame.number)
        if looking.block >= 0 and self._questions is not None:
            self._questions.free(looking.block)
        looking.look.tell(frame.meta.rstrip())

    def _borrow(self, block: int, size: int) -> memoryview:
        """Give a block of the worker's; it gets it back when no array refers to it any more."""
        # Every array that is made of the view keeps `owner` alive, so a block can't be written again while a reply
        # is still being encoded or waits for a slow client, whatever becomes of its ask.
        owner = np.frombuffer(self._answers[block : block + size], np.uint8)
        weakref.finalize(owner, self._give_back, block).atexit = False
        return memoryview(owner)  # type: ignore[arg-type]  # an array is a buffer

    def _give_back(self, block: int) -> None:
        if threading.get_ident() == self._thread:
            self._release(block)
            return
        with suppress(RuntimeError):  # the loop is closed, and the link with it
            self._loop.call_soon_threadsafe(self._release, block)  # the last reference was an encoding thread's

    def _release(self, block: int) -> None:
        if not self._is_lost and not self._is_stopping:
            self._send(encode_frame(RELEASE, block))

    def _settle(self, number: int, results: Sequence[Result]) -> None:
        running = self._running.pop(number, None)
        if running is None:
            return
        look = running.job.look
        is_awaited = look is not None and running.is_noted and not self._is_lost
        if look is not None and is_awaited:
            self._looking[number] = _Looking(look, running.block)
        elif running.block >= 0 and self._questions is not None:
            self._questions.free(running.block)
        if not self._is_stopping and not self._is_lost:
            self.free += 1
        running.job.settled(running.job, results)
        if look is not None and not is_awaited:
            look.tell(b"")
        if self._is_loaded and not self._is_lost:
            self._on_free()

    def _lose(self, reason: str) -> None:
        """Fail all that is inside, once; then wait a moment for the word how the process ended."""
        if self._is_lost:
            return
        self._is_lost = True
        self.free = 0
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()
        for number, running in list(self._running.items()):
            self._settle(number, [_lost_error("") for _ in running.job.asks])
        for looking in self._looking.values():
            looking.look.tell(b"")
        self._looking.clear()
        self._questions, self._answers = None, memoryview(b"")  # replies that are still read keep their part mapped
        if self._child is None or self._child.is_gone:
            self._tell()
        else:
            self._loop.call_later(_AUTOPSY_S, self._tell)

    def _exited(self, reason: str) -> None:
        """Know how the process ended; what it wrote before is read first."""
        self._reason = self._reason or reason
        self._ended.set()
        if self._is_lost:
            self._tell()
        else:
            self._loop.call_later(_AUTOPSY_S, self._lose, reason)

    def _tell(self) -> None:
        if self._is_told:
            return
        self._is_told = True
        reason = self._reason or "closed its link"
        if self._loading is not None and not self._loading.done():
            self._loading.set_exception(NotReady(f"its worker {reason} while it loaded the model"))
        elif self._is_loaded and not self._is_stopping:
            self._on_lost(reason)


def _anonymous_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status", "rb") as stream:
            return sum(int(line.split()[1]) * 1024 for line in stream if line.startswith((b"RssAnon:", b"VmSwap:")))
    except OSError:
        return 0


def _lost_error(reason: str) -> NotReady:
    said = f"the worker {reason}" if reason else "the worker crashed"
    return NotReady(f"{said} before it answered", hint="try again: another one takes its place")
