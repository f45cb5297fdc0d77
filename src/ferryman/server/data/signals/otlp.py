"""Send spans by OTLP over HTTP, with OpenTelemetry's own exporter."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ferryman import __version__
from ferryman.core.errors import MissingExtra
from ferryman.server.data.signals.spans import EndedSpan
from ferryman.server.data.signals.trace_context import TraceContext

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

_log = logging.getLogger("ferryman.server.tracing")


class Exporter:
    """Send chunks of spans, on the thread of who calls. Raises MissingExtra where opentelemetry is not installed.

    What the settings leave open, such as a certificate, comes from OpenTelemetry's own environment variables.
    """

    def __init__(self, endpoint: str, headers: Mapping[str, str], timeout_s: float, service: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
        except ImportError:
            raise MissingExtra("traces need opentelemetry", hint="pip install 'ferryman[otel]'") from None
        self._endpoint = endpoint
        self._exporter = OTLPSpanExporter(endpoint=endpoint, headers=dict(headers) or None, timeout=timeout_s)
        self._resource = Resource({"service.name": service, "service.version": __version__})
        self._is_failing = False

    def send(self, spans: Sequence[EndedSpan], to_unix_ns: int) -> bool:
        """Send spans whose times, in seconds, are so many nanoseconds behind Unix time; tell whether they arrived."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        try:
            result = self._exporter.export([self._made(span, to_unix_ns) for span in spans])
            why = "the collector refused them"
        except Exception as error:  # noqa: BLE001 - another's code, on a thread that must live on
            result, why = SpanExportResult.FAILURE, str(error)
        is_sent: bool = result is SpanExportResult.SUCCESS
        if not is_sent and not self._is_failing:
            _log.warning("traces can't be sent to %s: %s; requests are served on", self._endpoint, why)
        self._is_failing = not is_sent
        return is_sent

    def close(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()

    def _made(self, span: EndedSpan, to_unix_ns: int) -> "ReadableSpan":
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

        def told(context: TraceContext, *, is_remote: bool = False) -> SpanContext:
            return SpanContext(context.trace_id, context.span_id, is_remote, TraceFlags(TraceFlags.SAMPLED))

        is_server = span.kind == "server"
        parent = None
        if span.parent_id:
            parent = told(TraceContext(span.context.trace_id, span.parent_id, True), is_remote=is_server)
        return ReadableSpan(
            name=span.name,
            context=told(span.context),
            parent=parent,
            resource=self._resource,
            attributes=dict(span.attributes),
            links=[Link(told(link)) for link in span.links],
            kind=SpanKind.SERVER if is_server else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR if span.is_error else StatusCode.UNSET),
            start_time=int(span.started_s * 1e9) + to_unix_ns,
            end_time=int(span.ended_s * 1e9) + to_unix_ns,
        )
