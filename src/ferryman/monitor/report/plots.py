"""Choose what is drawn of a version and of a signal."""

from collections.abc import Mapping, Sequence

from ferryman.monitor.report.facts import SignalReport, VersionReport
from ferryman.monitor.report.svg import Axis, Line, band, bars, columns, distributions, lines

_MEDIAN, _LOW, _HIGH = 20, 4, 36  # places of 50, 10 and 90 % among the ranks


def plot_traffic(one: VersionReport, axis: Axis) -> str:
    """Draw requests by span: answered, the caller's fault, the server's; of records where nothing else is known."""
    if one.requests is not None:
        failed = [(slot.at_s, float(slot.requests_failed or 0)) for slot in one.slots]
        rest = [(slot.at_s, float((slot.requests or 0) - (slot.requests_failed or 0))) for slot in one.slots]
        stacked = [Line("not the server's fault", "ok", rest), Line("failed", "failed", failed)]
    else:
        answered = [(slot.at_s, float(slot.records - slot.failed - slot.refused)) for slot in one.slots]
        refused = [(slot.at_s, float(slot.refused)) for slot in one.slots]
        failed = [(slot.at_s, float(slot.failed)) for slot in one.slots]
        stacked = [Line("answered", "ok", answered), Line("refused", "refused", refused)]
        stacked.append(Line("failed", "failed", failed))
    legend = "".join(f'<span class="{line.kind}"><i></i>{line.name}</span>' for line in stacked)
    return columns(axis, stacked, label="requests over time") + f'<div class="legend">{legend}</div>'


def plot_latency(one: VersionReport, axis: Axis) -> str:
    """Draw p50 and p99 by span, in ms, and what the contract promises."""
    drawn = [
        Line(name, name, [(slot.at_s, 1000 * value) for slot, value in pairs if value is not None])
        for name, pairs in (
            ("p50", [(slot, slot.p50_s) for slot in one.slots]),
            ("p99", [(slot, slot.p99_s) for slot in one.slots]),
        )
    ]
    limit = 1000 * one.promised_p99_s if one.promised_p99_s is not None else None
    in_ms = Axis(axis.since_s, axis.until_s, axis.slot_s, "ms")
    legend = '<div class="legend"><span class="p50"><i></i>p50</span><span class="p99"><i></i>p99</span></div>'
    return lines(in_ms, drawn, limit=limit, label="latency over time, ms") + legend


def plot_signal(signal: SignalReport, ranks: Sequence[float], axis: Axis) -> str:
    """Draw a signal before and in the range, and over time."""
    before, after = signal.before, signal.after
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return bars(before, after, f"{signal.name[:80]}: shares before and now")
    if isinstance(before, Mapping) or isinstance(after, Mapping) or not before or not after:
        return ""
    drawn = distributions(before, after, ranks, f"{signal.name[:80]}: before as a line, now as bars")
    if len(signal.over_time) > 1:
        usual = (before[_LOW], before[_MEDIAN], before[_HIGH])
        drawn += band(axis, signal.over_time, usual, f"{signal.name[:80]} over time")
    return drawn
