"""Callers over WebSockets, each in a thread of its own, with several frames under way."""

import json
import time
from collections.abc import Callable
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.chaos.callers import Callers
from tests.chaos.counts import Counts
from tests.chaos.grpc_load import PAUSE_S
from tests.chaos.load import ANSWER_S, Target
from tests.chaos.questions import Question

_GOING_AWAY = 1001  # what is unanswered then was not taken, as the close tells


class StreamLoad(Callers):
    """Send frames while the block lasts, `ahead` of them unanswered; a stream that ends is followed by another."""

    def __init__(
        self, target: Target, questions: Callable[[int], Question], *, model: str = "affine", callers: int = 3,
        ahead: int = 3,
    ) -> None:  # fmt: skip
        super().__init__(callers)
        self._target = target
        self._questions = questions
        self._model = model
        self._ahead = ahead
        self._number = 0

    def _call(self, counts: Counts) -> None:
        scheme = "wss" if self._target.tls else "ws"
        url = f"{scheme}://localhost:{self._target.port}/v2/models/{self._model}/stream"
        headers = dict(line.split(": ", 1) for line in self._target.headers.splitlines())
        while not self._stopping.is_set():
            try:
                stream = connect(
                    url, ssl=self._target.tls, additional_headers=headers, proxy=None, compression=None,
                    close_timeout=5, open_timeout=ANSWER_S,
                )  # fmt: skip
            except InvalidStatus as refused:
                counts.sent += 1
                counts.refuse(0.0) if refused.response.status_code == 503 else counts.fail("upgrade", str(refused))
            except (OSError, InvalidHandshake, EOFError, TimeoutError):
                counts.unheard += 1
                if self._target.leaves_when_refused:
                    return
            else:
                with stream:
                    self._talk(stream, counts)
            time.sleep(0.02)

    def _talk(self, stream: ClientConnection, counts: Counts) -> None:
        asked: dict[int, tuple[Question, float]] = {}
        frame = 0
        try:
            while True:
                while len(asked) < self._ahead and not self._stopping.is_set():
                    self._number += 1
                    question = self._questions(self._number)
                    stream.send(json.dumps(question.body()))
                    asked[frame] = (question, time.monotonic())
                    counts.sent += 1
                    frame += 1
                if not asked:
                    return
                answer = json.loads(stream.recv(timeout=ANSWER_S))
                _settle(*asked.pop(answer["frame"]), answer, counts)
                time.sleep(PAUSE_S)
        except ConnectionClosed as closed:
            self._end(closed, len(asked), counts)

    def _end(self, closed: ConnectionClosed, unanswered: int, counts: Counts) -> None:
        code = closed.rcvd.code if closed.rcvd is not None else None
        for _ in range(unanswered):
            if code == _GOING_AWAY:
                counts.refuse(0.0)
            elif self._target.server_may_die:
                counts.cut += 1
            else:
                counts.lost += 1
        if code != _GOING_AWAY:
            counts.trouble(f"no answer: {closed}")


def _settle(question: Question, started_s: float, answer: dict[str, Any], counts: Counts) -> None:  # JSON
    took_s = time.monotonic() - started_s
    if "error" not in answer:
        if question.is_right(answer["model_version"], answer["outputs"][0]["data"]):
            counts.answer(took_s)
        else:
            counts.wrong += 1
            counts.trouble(f"wrong: {question.values} {answer}")
    elif answer["status"] in (429, 503):
        counts.refuse(took_s)
    else:
        counts.fail(str(answer["status"]), answer["error"])
