"""A record as a CloudEvent, of the types that KServe's loggers have."""

import math
from datetime import UTC, datetime
from typing import Any

import orjson

from ferryman.monitor.store.rows import value_of
from ferryman.monitor.store.sinks.protocol import Event

TYPE = "org.kubeflow.serving.inference.response"
STRUCTURED, BATCHED = "application/cloudevents+json", "application/cloudevents-batch+json"
_FIELDS = ("id", "model", "version", "at_s", "outcome", "transport", "trace", "total_s", "queue_s", "prepare_s",
           "infer_s", "finish_s", "asks", "rows")  # fmt: skip


def data_of(event: Event) -> dict[str, Any]:
    """Give the record as JSON: its fields, and its signals under `signals`."""
    told: dict[str, Any] = dict(zip(_FIELDS, event.raw, strict=False))
    told["signals"] = {name: [_finite(value_of(value)) for value in values] for name, values in event.raw[14].items()}
    return told


def event_of(event: Event, source: str) -> dict[str, Any]:
    """Give a CloudEvent 1.0 with the record as its data (CloudEvents specification, sections 2 and 3)."""
    told: dict[str, Any] = {
        "specversion": "1.0", "id": event.id, "source": source, "type": TYPE,
        "datacontenttype": "application/json", "inferenceservicename": str(event.raw[1]),
        "modelversion": str(event.raw[2]), "data": data_of(event),
    }  # fmt: skip
    at_s = event.raw[3]
    if isinstance(at_s, int | float) and 0 <= at_s < 4e9:
        told["time"] = datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")
    return told


def headers_of(told: dict[str, Any]) -> dict[str, str]:
    """Give an event's fields as HTTP headers (binary mode), with what a header can't hold quoted as %XX."""
    return {
        f"ce-{name}": _quoted(str(value)) for name, value in told.items() if name not in ("data", "datacontenttype")
    } | {"content-type": "application/json"}


def dump(told: object) -> bytes:
    """Give JSON."""
    return orjson.dumps(told)


def _quoted(text: str) -> str:
    """Quote as the HTTP binding says (3.1.3.2): what is not printable ASCII, spaces, quotes and percent signs."""
    return "".join(
        sign if "!" <= sign <= "~" and sign not in '"%' else "".join(f"%{byte:02X}" for byte in sign.encode())
        for sign in text
    )


def _finite(value: float | str | None) -> float | str | None:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
