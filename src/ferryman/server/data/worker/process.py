"""A worker: the process in which one version of a model is loaded and answers."""

import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from typing import Any, NoReturn

from ferryman.core.errors import FerrymanError, Overloaded
from ferryman.core.log_lines import VARIABLE, log_handler
from ferryman.server.data.worker.arena import Arena, map_arena
from ferryman.server.data.worker.loading import bring_up
from ferryman.server.data.worker.memory import give_back_memory
from ferryman.server.data.worker.messages import read_items, read_tensors, write_outcome
from ferryman.server.data.worker.order import read_order, write_loaded
from ferryman.server.data.worker.running import Outcome, Runner
from ferryman.server.data.worker.wire import (
    DONE,
    FAILED,
    LOADED,
    NOTED,
    RELEASE,
    Frame,
    FrameReader,
    decode_json,
    encode_error,
    encode_frame,
    encode_json,
)

MOST_INLINE_BYTES = 16 * 1024
_RECEIVE_BYTES = 256 * 1024
_QUICK_S = 0.001  # jobs that are done sooner are not worth waking another thread for
_log = logging.getLogger("ferryman.server")


def ignore_signals() -> None:
    """Leave what is sent to the whole group to the server: it decides when its workers end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def work(link: int, questions: int, answers: int) -> NoReturn:
    """Be a worker until the server's end of `link` closes; the other two are the memory that both share."""
    ignore_signals()
    logging.root.addHandler(log_handler(os.environ.get(VARIABLE, "text"), text="%(message)s", stream=sys.stderr))
    logging.getLogger("ferryman").setLevel(logging.WARNING)  # importing OpenVINO raises the root's level to ERROR
    try:
        with socket.socket(fileno=link) as ours:
            _Worker(ours, questions, answers).live()
    except BaseException:  # noqa: BLE001 - the boundary of a process
        traceback.print_exc()
        os._exit(70)
    os._exit(0)  # what a model left behind (threads, handlers) can't hold it up


class _Link:
    """Read and write frames from several threads."""

    def __init__(self, link: socket.socket, questions: int, answers: int) -> None:
        self._socket = link
        self._questions = map_arena(questions)
        self._answers = Arena(answers, os.fstat(answers).st_size)
        self.reading = threading.Lock()
        self._writing = threading.Lock()
        self._reader = FrameReader()
        self._frames: deque[Frame] = deque()

    def receive(self) -> Frame | None:
        """Wait for the next order; None at the end. Only who holds `reading` may."""
        while True:
            while self._frames:
                frame = self._frames.popleft()
                if frame.kind != RELEASE:
                    return frame
                with self._writing:
                    self._answers.free(frame.number)
            received = self._socket.recv(_RECEIVE_BYTES)
            if not received:
                return None
            self._frames.extend(self._reader.feed(received))

    def payload_of(self, frame: Frame, meta: dict[str, Any]) -> memoryview:  # JSON
        """Give what came with a frame, wherever it lies."""
        block, size = meta.get("b", -1), meta.get("z", 0)
        return frame.payload if block < 0 else self._questions[block : block + size]

    def send(self, kind: int, number: int, meta: Any) -> None:  # JSON
        """Send a frame without a payload."""
        with self._writing:
            self._socket.sendall(encode_frame(kind, number, encode_json(meta)))

    def send_raw(self, kind: int, number: int, meta: bytes) -> None:
        """Send a frame of JSON that is written already."""
        with self._writing:
            self._socket.sendall(encode_frame(kind, number, meta))

    def send_outcome(self, number: int, outcome: Outcome, wanted: list[str] | None) -> None:
        """Send what became of a job: small answers with the frame, large ones through the shared memory."""
        meta, parcel = write_outcome(outcome, wanted)
        with self._writing:
            if parcel.size_bytes > MOST_INLINE_BYTES:
                try:
                    meta["b"] = self._answers.allocate(parcel.size_bytes)
                    meta["z"] = parcel.size_bytes
                except Overloaded:  # answers that clients are slow to take: this one goes through the socket
                    meta["b"] = -1
            block = meta.get("b", -1)
            if block >= 0:
                parcel.write_to(self._answers.buffer[block : block + parcel.size_bytes])
                self._socket.sendall(encode_frame(DONE, number, encode_json(meta)))
                return
            inline = bytearray(parcel.size_bytes)
            parcel.write_to(memoryview(inline))
            self._socket.sendall(encode_frame(DONE, number, encode_json(meta), len(inline)) + inline)


class _Worker:
    def __init__(self, link: socket.socket, questions: int, answers: int) -> None:
        self._link = _Link(link, questions, answers)

    def live(self) -> None:
        """Load what the first frame says, then answer until the link closes."""
        first = self._link.receive()
        if first is None:
            return
        order = read_order(decode_json(first.meta))
        try:
            model, loaded = bring_up(order)
            gc.collect()
            give_back_memory()  # loading leaves tens of megabytes behind
        except Exception as error:  # noqa: BLE001 - a bundle may fail in any way; the server tells why
            if not isinstance(error, FerrymanError):
                traceback.print_exc()
            self._link.send(FAILED, first.number, encode_error(error))
            self._link.receive()  # the server closes
            return
        engines = order.instances if loaded.releases_gil else 1
        runner = Runner(model, engines)
        # One more than the engine takes at once, so that one request is prepared or finished beside the others.
        threads = [
            threading.Thread(target=self._serve, args=(runner, engines == 1), name=f"job-{place}", daemon=True)
            for place in range(engines)
        ]
        for thread in threads:
            thread.start()
        self._link.send(LOADED, first.number, write_loaded(loaded))
        self._serve(runner, engines == 1)
        for thread in threads:
            thread.join()

    def _serve(self, runner: Runner, is_alone: bool) -> None:
        """Take one job after the other. Whoever is free reads, so no job is handed from thread to thread."""
        try:
            frame: Frame | None
            is_quick = False
            while True:
                with self._link.reading:
                    # Where one call runs at a time, and is short, this thread goes on by itself: passing the reading
                    # on would cost more than the other thread could do meanwhile.
                    while (frame := self._link.receive()) is not None and is_quick:
                        is_quick = self._answer(frame, runner) < _QUICK_S
                if frame is None:
                    return
                is_quick = self._answer(frame, runner) < _QUICK_S and is_alone
        except (BrokenPipeError, ConnectionResetError):  # the server has gone
            return
        except BaseException:  # noqa: BLE001 - a broken link: nothing that this process says is of use any more
            traceback.print_exc()
            os._exit(70)

    def _answer(self, frame: Frame, runner: Runner) -> float:
        """Answer one job; gives the seconds that it took."""
        began_s = time.perf_counter()
        meta = decode_json(frame.meta)
        payload = self._link.payload_of(frame, meta)
        looks = "k" in meta
        if "i" in meta:
            outcome = runner.run_tensors(read_tensors(meta, payload), meta["r"], looks=looks)
        else:
            outcome = runner.run_items(read_items(meta, payload), looks=looks)
        for error in outcome.errors.values():
            if not isinstance(error, FerrymanError):
                _log.error("a request failed", exc_info=error)
        self._link.send_outcome(frame.number, outcome, meta.get("w"))
        if looks:
            self._link.send_raw(NOTED, frame.number, runner.note(outcome))
        return time.perf_counter() - began_s
