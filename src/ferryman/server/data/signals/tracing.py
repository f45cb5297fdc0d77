"""Follow some requests through the server, and send what was seen to an OpenTelemetry collector."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ferryman.core.errors import ConfigError
from ferryman.server.data.ask import Stages
from ferryman.server.data.signals.otlp import Exporter
from ferryman.server.data.signals.spans import EndedSpan, OpenSpan, Value, stage_times
from ferryman.server.data.signals.trace_context import TraceContext, parse_traceparent

_CAPACITY = 8192
_CHUNK = 256
_EVERY_S = 1.0
_64_BITS = 1 << 64


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """Say where spans go (`http://collector:4318/v1/traces`) and which requests are traced.

    A request that comes with a `traceparent` follows its caller's choice; of the others a share of `ratio` is traced.
    """

    endpoint: str
    ratio: float = 0.01
    service: str = "ferryman"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # they may hold a password
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ConfigError(f"the ratio of traced requests can't be {self.ratio}", hint="choose from 0 to 1")
        if not self.endpoint.startswith(("http://", "https://")):
            raise ConfigError(f"'{self.endpoint}' is no address for traces", hint="http://localhost:4318/v1/traces")


class Tracing:
    """Begin and end spans on the loop, which costs a request that is not traced one comparison.

    A thread sends them; while the collector can't take them they are dropped and counted in `lost`. `clock` is the
    loop's. Raises MissingExtra where opentelemetry is not installed.
    """

    def __init__(self, settings: TraceSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._exporter = Exporter(settings.endpoint, settings.headers, settings.timeout_s, settings.service)
        self._clock = clock
        self._random = random.Random()  # noqa: S311 - ids are no secrets
        self._threshold = int(settings.ratio * _64_BITS)
        self._ended: deque[EndedSpan] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tracing", daemon=True)
        self._dropped = 0  # the loop's
        self._unsent = 0  # the thread's

    @property
    def lost(self) -> int:
        """Tell how many spans were dropped or couldn't be sent."""
        return self._dropped + self._unsent

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def close(self, timeout_s: float = 2.0) -> None:
        """Send what is left, for `timeout_s` at most."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                self._exporter.close()  # it tries again and again where the collector is away

    def begin(self, traceparent: bytes | None, started_s: float) -> OpenSpan | None:
        """Begin to trace a request, if it is one that is traced; `span.context.header()` names it to others."""
        parent = parse_traceparent(traceparent) if traceparent is not None else None
        low_bits = self._random.getrandbits(64)
        if parent is not None:
            if not parent.is_sampled:
                return None
            return OpenSpan(TraceContext(parent.trace_id, low_bits or 1, True), parent.span_id, started_s)
        if low_bits >= self._threshold:
            return None
        # As other tracers do, the choice is made by the id's low half: so another server would choose the same.
        trace_id = self._random.getrandbits(64) << 64 | low_bits
        return OpenSpan(TraceContext(trace_id or 1, self._span_id(), True), 0, started_s)

    def job(self, spans: Sequence[OpenSpan], stages: Stages, ended_s: float) -> None:
        """Record the stages of one call of the engine under each traced request that shared it.

        The call itself is a span `batch` of the first one's trace, with links to all of these requests; their own
        spans `infer` link to it.
        """
        if not spans:
            return
        times = stage_times(stages, ended_s)
        size: dict[str, Value] = {"ferryman.batch.requests": stages.asks, "ferryman.batch.rows": stages.rows}
        links = [span.context for span in spans]
        first = spans[0].context
        batch = TraceContext(first.trace_id, self._span_id(), True)
        self._keep(EndedSpan("batch", batch, first.span_id, times[1][1], ended_s, size, links))
        for span in spans:
            for name, from_s, to_s in times:
                own = TraceContext(span.context.trace_id, self._span_id(), True)
                linked, told = ((batch,), size) if name == "infer" else ((), {})
                self._keep(EndedSpan(name, own, span.context.span_id, from_s, to_s, told, linked))

    def end(
        self, span: OpenSpan, name: str, ended_s: float, attributes: Mapping[str, Value], *, is_error: bool = False
    ) -> None:
        """Record a request that was answered; `name` is of few kinds, such as `POST /v2/models/{model}/infer`."""
        self._keep(
            EndedSpan(
                name,
                span.context,
                span.parent_id,
                span.started_s,
                ended_s,
                attributes,
                kind="server",
                is_error=is_error,
            )
        )

    def _keep(self, span: EndedSpan) -> None:
        if len(self._ended) < _CAPACITY:
            self._ended.append(span)
        else:
            self._dropped += 1

    def _span_id(self) -> int:
        return self._random.getrandbits(64) or 1

    def _run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._stopping.wait(_EVERY_S)
            while chunk := list(self._taken()):
                to_unix_ns = time.time_ns() - int(self._clock() * 1e9)
                if not self._exporter.send(chunk, to_unix_ns):
                    self._unsent += len(chunk)
        self._exporter.close()

    def _taken(self) -> Iterable[EndedSpan]:
        for _ in range(min(_CHUNK, len(self._ended))):
            yield self._ended.popleft()
