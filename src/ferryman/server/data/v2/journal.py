"""What is kept of each answered request: figures, a line in the access log, and a span where it is traced."""

import time
from dataclasses import dataclass

from ferryman.core.errors import FerrymanError
from ferryman.server.data.ask import Gone
from ferryman.server.data.http.refused import Refused
from ferryman.server.data.http.request import Request, Response
from ferryman.server.data.signals.access_log import AccessLog
from ferryman.server.data.signals.metrics import Metrics
from ferryman.server.data.signals.outcomes import outcome_of, told_as
from ferryman.server.data.signals.served import ServedMetrics
from ferryman.server.data.signals.spans import OpenSpan, Value
from ferryman.server.data.signals.trace_context import parse_traceparent
from ferryman.server.data.signals.tracing import Tracing

_SERVER_FAULTS = frozenset((2, 4, 12, 13, 14, 15))  # gRPC's statuses that are not the caller's doing


# Not frozen, as one is made for each request: that would cost a microsecond.
@dataclass(slots=True, eq=False)
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
    trace_id: str
    span: OpenSpan | None


@dataclass(slots=True, eq=False)
class About:
    """Say who was asked: the version that answered (or would have), and the request's id and trace."""

    model: str = ""
    version: str = ""
    request_id: str = ""
    trace_id: str = ""
    span: OpenSpan | None = None


_NOBODY = About()


class Journal:
    """Count requests, log them and trace some; use from the server's loop."""

    def __init__(self, metrics: Metrics, access_log: AccessLog | None, tracing: Tracing | None) -> None:
        self._metrics = metrics
        self._access_log = access_log
        self._tracing = tracing

    def begin(self, traceparent: bytes | None, arrived_s: float) -> tuple[OpenSpan | None, str]:
        """Begin a span where a request is traced; gives it, and the trace's id where the request is part of one."""
        if self._tracing is not None:
            span = self._tracing.begin(traceparent, arrived_s)
            if span is not None:
                return span, span.context.trace_hex
        if traceparent is None:
            return None, ""
        context = parse_traceparent(traceparent)
        return None, context.trace_hex if context is not None else ""

    def answered(
        self, request: Request, response: Response, error: FerrymanError | None, asked: About = _NOBODY
    ) -> None:
        """Note one request that a model was asked, or, where no version is named, a page."""
        now_s = time.monotonic()
        seconds = now_s - request.arrived_s
        head, body = request.head, response.body
        bytes_out = len(body) if type(body) is bytes else _size_of(response)
        if asked.version:
            figures = self._metrics.find(asked.model, asked.version)
            if figures is not None:
                figures.request(outcome_of(error), seconds, "http")
                figures.sizes(request.bytes_in, bytes_out)
            if asked.span is not None:
                self._end(asked, response.status, now_s)
        if self._access_log is not None:
            caller = request.caller.id if request.caller is not None else ""
            self._access_log.note(
                (
                    time.time(), head.method, head.path, response.status, seconds, request.bytes_in, bytes_out,
                    asked.model, asked.version, caller, request.peer,
                    asked.request_id or request.id, asked.trace_id,
                )
            )  # fmt: skip

    def refused(self, request: Request, response: Response, error: FerrymanError, model: str = "") -> None:
        """Note one request that no model was asked."""
        self._metrics.rejected(outcome_of(error))
        self.answered(request, response, error, About(model))

    def turned_away(self, refused: Refused) -> None:
        """Note what was refused before it was a request."""
        if self._access_log is not None:
            self._access_log.refuse((refused.method, refused.path, refused.status, refused.peer, refused.reason))

    def gone(self, request: Request, about: About) -> None:
        """Note one request whose client left before its answer."""
        error = Gone("the client left")
        self.answered(request, Response(told_as(error).http), error, about)

    def figures(self, name: str, version: str) -> ServedMetrics | None:
        """Give what is counted of a version."""
        return self._metrics.find(name, version)

    def called(self, call: CallFacts, error: Exception | None) -> None:
        """Note one gRPC call."""
        seconds = time.monotonic() - call.arrived_s
        figures = self._metrics.find(call.model, call.version) if call.is_inference else None
        if figures is not None:
            figures.request(outcome_of(error), seconds, "grpc")
            figures.sizes(call.bytes_in, call.bytes_out)
        elif error is not None and (call.is_inference or not isinstance(error, Gone)):
            # Streams and watches have no other end than that their client leaves.
            self._metrics.rejected(outcome_of(error))
        self._end_call(About(call.model, call.version, call.request_id, span=call.span), call.status)
        if self._access_log is not None:
            self._access_log.note(
                (
                    time.time(), "GRPC", call.path, call.status, seconds, call.bytes_in, call.bytes_out, call.model,
                    call.version, call.caller, call.peer, call.request_id, call.trace_id,
                )
            )  # fmt: skip

    def streamed(self, asked: About, status: int, error: Exception | None, seconds: float) -> None:
        """Count one request of a gRPC stream; `status` is gRPC's own number."""
        figures = self._metrics.find(asked.model, asked.version)
        if figures is not None:
            figures.request(outcome_of(error), seconds, "grpc")
        else:
            self._metrics.rejected(outcome_of(error))
        self._end_call(asked, status)

    def framed(self, model: str, version: str, error: FerrymanError | None, seconds: float) -> None:
        """Count one frame of a WebSocket."""
        figures = self._metrics.find(model, version)
        if figures is not None:
            figures.request(outcome_of(error), seconds, "websocket")

    def _end_call(self, asked: About, status: int) -> None:
        if self._tracing is not None and asked.span is not None:
            attributes: dict[str, Value] = {
                "rpc.grpc.status_code": status,
                "ferryman.request.id": asked.request_id,
                "ferryman.model.name": asked.model,
                "ferryman.model.version": asked.version,
            }
            is_error = status in _SERVER_FAULTS
            self._tracing.end(asked.span, "ModelInfer", time.monotonic(), attributes, is_error=is_error)

    def _end(self, asked: About, status: int, now_s: float) -> None:
        if self._tracing is not None and asked.span is not None:
            attributes: dict[str, Value] = {
                "http.response.status_code": status,
                "ferryman.request.id": asked.request_id,
                "ferryman.model.name": asked.model,
                "ferryman.model.version": asked.version,
            }
            name = "POST /v2/models/{model}/infer"
            self._tracing.end(asked.span, name, now_s, attributes, is_error=status >= 500)


def _size_of(response: Response) -> int:
    body = response.body
    if isinstance(body, bytes):
        return len(body)
    return sum(len(part) if isinstance(part, bytes) else part.nbytes for part in body)
