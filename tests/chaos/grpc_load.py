"""Callers over gRPC, with grpcio, each in a thread of its own."""

import queue
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np

from ferryman.server.data.grpc.messages import INFERENCE, InferRequest, InferResponse, message
from tests.chaos.callers import Callers
from tests.chaos.counts import Counts
from tests.chaos.load import ANSWER_S, Target
from tests.chaos.questions import Question

_RETRY = "retry-after"
PAUSE_S = 0.004
_Streamed = message("inference.ModelStreamInferResponse")
Questions = Callable[[int], Question]


class GrpcLoad(Callers):
    """Ask again and again while the block lasts, `callers` at once over one channel each.

    With `is_fleeting` every question has a channel of its own. `token` may be changed while it runs.
    """

    def __init__(
        self, target: Target, questions: Questions, *, callers: int = 3, pause_s: float = PAUSE_S, token: str = "",
        is_fleeting: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(callers)
        self.token = token
        self._target = target
        self._questions = questions
        self._pause_s = pause_s
        self._is_fleeting = is_fleeting

    def _call(self, counts: Counts) -> None:
        number = 0
        while not self._stopping.is_set():
            with channel_to(self._target) as channel:
                infer = channel.unary_unary(
                    f"/{INFERENCE}/ModelInfer", InferRequest.SerializeToString, InferResponse.FromString
                )
                is_first = True
                while not self._stopping.is_set() and (is_first or not self._is_fleeting):
                    is_first = False
                    number += 1
                    if not self._ask(infer, self._questions(number), counts):
                        return
                    time.sleep(self._pause_s)

    def _ask(self, infer: Any, question: Question, counts: Counts) -> bool:  # a callable of grpcio
        """Ask once; gives whether to go on."""
        started_s = time.monotonic()
        metadata = (("authorization", f"Bearer {self.token}"),) if self.token else ()
        try:
            answer = infer(question.grpc(), timeout=ANSWER_S, metadata=metadata)
        except grpc.RpcError as error:
            return settle(error, counts, self._target, time.monotonic() - started_s)
        counts.sent += 1
        judge(question, answer, counts, time.monotonic() - started_s)
        return True


class GrpcStreamLoad(Callers):
    """Ask within calls of many messages, `ahead` of them at once; a call that ends is followed by another."""

    def __init__(self, target: Target, questions: Questions, *, callers: int = 3, ahead: int = 3) -> None:
        super().__init__(callers)
        self._target = target
        self._questions = questions
        self._ahead = ahead

    def _call(self, counts: Counts) -> None:
        number = 0
        with channel_to(self._target) as channel:
            stream: Any = channel.stream_stream(  # grpcio's stubs know no calls of plain messages
                f"/{INFERENCE}/ModelStreamInfer", InferRequest.SerializeToString, _Streamed.FromString
            )
            while not self._stopping.is_set():
                number = self._talk(stream, number, counts)
                if number < 0:
                    return

    def _talk(self, stream: Any, number: int, counts: Counts) -> int:
        """Ask until the call ends; gives the number of the last question, -1 to leave."""
        said: queue.SimpleQueue[Question | None] = queue.SimpleQueue()
        asked: list[tuple[Question, float]] = []

        def say() -> Iterator[Any]:
            while (question := said.get()) is not None:
                yield question.grpc()

        answers = stream(say(), timeout=ANSWER_S)
        try:
            while True:
                while len(asked) < self._ahead and not self._stopping.is_set():
                    number += 1
                    asked.append((self._questions(number), time.monotonic()))
                    counts.sent += 1
                    said.put(asked[-1][0])
                if not asked:
                    return number
                answer = next(answers)
                _take(*asked.pop(0), answer, counts)
                time.sleep(PAUSE_S)
        except grpc.RpcError as error:
            return number if self._end(error, len(asked), counts) else -1
        finally:
            said.put(None)
            answers.cancel()

    def _end(self, error: Any, unanswered: int, counts: Counts) -> bool:  # grpcio's errors are of many classes
        """Count what a call left unanswered at its end; gives whether to go on."""
        counts.sent -= unanswered
        goes_on = True
        for _ in range(unanswered):
            goes_on = settle(error, counts, self._target, 0.0)
        if "failed to connect" in (error.details() or "").lower():
            time.sleep(0.02)
        return goes_on


def _take(question: Question, started_s: float, answer: Any, counts: Counts) -> None:  # a ModelStreamInferResponse
    took_s = time.monotonic() - started_s
    if not answer.error_message:
        judge(question, answer.infer_response, counts, took_s)
    elif "try again" in answer.error_message:
        counts.refuse(took_s)
    else:
        counts.fail("a message", answer.error_message)


def channel_to(target: Target) -> Any:  # grpcio's stubs know no calls of plain messages
    """Open a channel of one connection of its own."""
    options: list[tuple[str, Any]] = [
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
    ]
    options.append(("grpc.use_local_subchannel_pool", 1))  # or callers would share a connection
    address = f"127.0.0.1:{target.port}"
    if not target.roots:
        return grpc.insecure_channel(address, options=options)
    key, chain = target.client or (None, None)
    options.append(("grpc.ssl_target_name_override", "localhost"))
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(target.roots, key, chain), options=options)


def judge(question: Question, answer: Any, counts: Counts, took_s: float) -> None:  # a ModelInferResponse
    """Count an answer as right or wrong."""
    values = np.frombuffer(answer.raw_output_contents[0], np.float32).tolist()
    if question.is_right(answer.model_version, values):
        counts.answer(took_s)
    else:
        counts.wrong += 1
        counts.trouble(f"wrong: {question.values} {values}")


def settle(error: Any, counts: Counts, target: Target, took_s: float) -> bool:  # grpcio's errors are of many classes
    """Count a call that ended with an error; gives whether to go on."""
    words = error.details() or ""
    if "failed to connect" in words.lower() or "handshaker shutdown" in words.lower():
        counts.unheard += 1
        return not target.leaves_when_refused
    counts.sent += 1
    if any(key == _RETRY for key, _ in error.trailing_metadata() or ()):
        counts.refuse(took_s)
    elif error.code() == grpc.StatusCode.UNAVAILABLE:  # the connection's end, in the client's own words
        if target.server_may_die:
            counts.cut += 1
        else:
            counts.lost += 1
        counts.trouble(f"no answer: {words}")
    else:
        counts.fail(error.code().name, words)
    return True
