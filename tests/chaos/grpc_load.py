"""Callers over gRPC, with grpcio, each in a thread of its own."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np

from ferryman.server.data.grpc.messages import INFERENCE, InferRequest, InferResponse
from tests.chaos.counts import Counts, together
from tests.chaos.load import ANSWER_S, Target
from tests.chaos.questions import Question
from tests.server.running import wait_until

_RETRY = "retry-after"


class GrpcLoad:
    """Ask again and again while the block lasts, `callers` at once over one channel each."""

    def __init__(
        self, target: Target, questions: Callable[[int], Question], *, callers: int = 3, pause_s: float = 0.004
    ) -> None:
        self._target = target
        self._questions = questions
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self._counts = [Counts() for _ in range(callers)]
        self._threads = [threading.Thread(target=self._call, args=(each,), name="grpc") for each in self._counts]

    @property
    def counts(self) -> Counts:
        """Give what all callers saw."""
        return together(self._counts)

    def hurt(self) -> None:
        """Know that the harm is done now."""
        for each in self._counts:
            each.hurt()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask no more, and wait for the last answers."""
        self._stopping.set()
        self.wait_until_left()

    def wait_for_answers(self, more: int, *, timeout_s: float = ANSWER_S) -> None:
        """Return when so many more were answered right."""
        until = self.counts.answered + more
        wait_until(lambda: self.counts.answered >= until, timeout_s=timeout_s)

    def wait_until_left(self) -> None:
        """Return when every caller has gone."""
        for thread in self._threads:
            thread.join(2 * ANSWER_S)
            assert not thread.is_alive(), "a caller hangs"

    def _call(self, counts: Counts) -> None:
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]
        options.append(("grpc.use_local_subchannel_pool", 1))  # or callers would share a connection
        with grpc.insecure_channel(f"127.0.0.1:{self._target.port}", options=options) as channel:
            infer = channel.unary_unary(
                f"/{INFERENCE}/ModelInfer", InferRequest.SerializeToString, InferResponse.FromString
            )
            number = 0
            while not self._stopping.is_set():
                number += 1
                if not self._ask(infer, self._questions(number), counts):
                    return
                time.sleep(self._pause_s)

    def _ask(self, infer: Any, question: Question, counts: Counts) -> bool:  # a callable of grpcio
        """Ask once; gives whether to go on."""
        started_s = time.monotonic()
        try:
            answer = infer(question.grpc(), timeout=ANSWER_S)
        except grpc.RpcError as error:
            return self._settle(error, counts, time.monotonic() - started_s)
        counts.sent += 1
        values = np.frombuffer(answer.raw_output_contents[0], np.float32).tolist()
        if question.is_right(answer.model_version, values):
            counts.answer(time.monotonic() - started_s)
        else:
            counts.wrong += 1
            counts.trouble(f"wrong: {question.values} {values}")
        return True

    def _settle(self, error: Any, counts: Counts, took_s: float) -> bool:  # grpcio's errors are of many classes
        words = error.details() or ""
        if "failed to connect" in words.lower():
            counts.unheard += 1
            return not self._target.leaves_when_refused
        counts.sent += 1
        if any(key == _RETRY for key, _ in error.trailing_metadata() or ()):
            counts.refuse(took_s)
        elif error.code() == grpc.StatusCode.UNAVAILABLE:  # the connection's end, in the client's own words
            if self._target.server_may_die:
                counts.cut += 1
            else:
                counts.lost += 1
            counts.trouble(f"no answer: {words}")
        else:
            counts.fail(error.code().name, words)
        return True
