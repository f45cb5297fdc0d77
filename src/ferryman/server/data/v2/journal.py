"""What is kept of each answered request: figures, and a line in the access log."""

import asyncio
import time
from dataclasses import dataclass

from ferryman.core.errors import FerrymanError
from ferryman.server.data.http.request import Request, Response
from ferryman.server.data.signals.access_log import AccessLog
from ferryman.server.data.signals.metrics import Metrics
from ferryman.server.data.signals.outcomes import outcome_of


@dataclass(frozen=True, slots=True)
class CallFacts:
    """Hold what is noted of a gRPC call; `status` is gRPC's own number."""

    path: str
    status: int
    model: str
    version: str
    caller: str
    arrived_s: float
    bytes_in: int
    bytes_out: int
    peer: str
    request_id: str
    is_inference: bool


class Journal:
    """Count requests and log them; use from the server's loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, metrics: Metrics, access_log: AccessLog | None) -> None:
        self._loop = loop
        self._metrics = metrics
        self._access_log = access_log

    def answered(
        self,
        request: Request,
        response: Response,
        error: FerrymanError | None,
        model: str = "",
        version: str = "",
        request_id: str = "",
    ) -> None:
        """Note one request that a model was asked, or, where no model is named, a page."""
        seconds = self._loop.time() - request.arrived_s
        bytes_out = _size_of(response)
        if version:
            figures = self._metrics.find(model, version)
            if figures is not None:
                figures.request(outcome_of(error), seconds, "http")
                figures.sizes(request.bytes_in, bytes_out)
        if self._access_log is not None:
            caller = request.caller.id if request.caller is not None else ""
            self._access_log.note(
                (
                    time.time(), request.method, request.path, response.status, seconds, request.bytes_in, bytes_out,
                    model, version, caller, request.peer, request_id, "",
                )
            )  # fmt: skip

    def refused(self, request: Request, response: Response, error: FerrymanError, model: str = "") -> None:
        """Note one request that no model was asked."""
        self._metrics.rejected(outcome_of(error))
        self.answered(request, response, error, model)

    def called(self, call: CallFacts, error: Exception | None) -> None:
        """Note one gRPC call."""
        seconds = self._loop.time() - call.arrived_s
        figures = self._metrics.find(call.model, call.version) if call.is_inference else None
        if figures is not None:
            figures.request(outcome_of(error), seconds, "grpc")
            figures.sizes(call.bytes_in, call.bytes_out)
        elif error is not None:
            self._metrics.rejected(outcome_of(error))
        if self._access_log is not None:
            self._access_log.note(
                (
                    time.time(), "GRPC", call.path, call.status, seconds, call.bytes_in, call.bytes_out, call.model,
                    call.version, call.caller, call.peer, call.request_id, "",
                )
            )  # fmt: skip

    def framed(self, model: str, version: str, error: FerrymanError | None, seconds: float) -> None:
        """Count one frame of a WebSocket."""
        figures = self._metrics.find(model, version)
        if figures is not None:
            figures.request(outcome_of(error), seconds, "websocket")


def _size_of(response: Response) -> int:
    body = response.body
    if isinstance(body, bytes):
        return len(body)
    return sum(len(part) if isinstance(part, bytes) else part.nbytes for part in body)
