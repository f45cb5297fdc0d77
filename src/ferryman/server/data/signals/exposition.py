"""Metrics as text: Prometheus' format and OpenMetrics.

Written here because prometheus_client costs 45 ms of a server's start, and several milliseconds of its one thread at
each scrape of a few models; the tests read what comes out with its parsers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ferryman.server.data.signals.histogram import Histogram

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[str, ...]

_PLAIN = "text/plain; version=0.0.4; charset=utf-8"
_OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_TOTAL = "_total"


@dataclass(slots=True)
class Family:
    """Hold one metric: `values` has a value for each list of label values, in the order of `labels`."""

    name: str
    kind: Kind
    help: str
    labels: Labels = ()
    values: list[tuple[Sequence[str], float | Histogram]] = field(default_factory=list)


def wants_openmetrics(accept: bytes | None) -> bool:
    """Tell from an Accept header which format to write."""
    return accept is not None and b"application/openmetrics-text" in accept


def write(families: Iterable[Family], *, openmetrics: bool) -> tuple[bytes, str]:
    """Give the text and its content type; a family without values is left out."""
    lines: list[str] = []
    for family in families:
        if family.values:
            _write_family(family, lines, openmetrics=openmetrics)
    if openmetrics:
        lines.append("# EOF\n")
    return "".join(lines).encode(), _OPEN if openmetrics else _PLAIN


def _write_family(family: Family, lines: list[str], *, openmetrics: bool) -> None:
    name, kind = family.name, str(family.kind)
    if openmetrics and kind == "counter":
        # There a counter's samples end in _total and its family doesn't; names of others that don't are no counters.
        kind = kind if name.endswith(_TOTAL) else "unknown"
        name = name.removesuffix(_TOTAL)
    lines.append(f"# HELP {name} {_escaped(family.help)}\n# TYPE {name} {kind}\n")
    for values, value in family.values:
        pairs = [f'{label}="{_escaped(text)}"' for label, text in zip(family.labels, values, strict=True)]
        if isinstance(value, Histogram):
            _write_histogram(family.name, pairs, value, lines)
        else:
            shown = f"{{{','.join(pairs)}}}" if pairs else ""
            lines.append(f"{family.name}{shown} {value}\n")


def _write_histogram(name: str, pairs: list[str], histogram: Histogram, lines: list[str]) -> None:
    head = f"{name}_bucket{{{''.join(f'{pair},' for pair in pairs)}le="
    running = 0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        running += count
        lines.append(f'{head}"{bound}"}} {running}\n')
    running += histogram.counts[-1]
    shown = f"{{{','.join(pairs)}}}" if pairs else ""
    lines.append(f'{head}"+Inf"}} {running}\n{name}_count{shown} {running}\n{name}_sum{shown} {histogram.total}\n')


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
