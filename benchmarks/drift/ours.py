"""Ferryman's watch on a stream."""

from benchmarks.drift.streams import INTERVAL_ROWS, Stream

from ferryman.core.contract import DriftPolicy
from ferryman.monitor.baseline import make_baseline
from ferryman.monitor.drift.watch import DriftWatch

POLICY = DriftPolicy(false_alarms="1 per 1 hour")
STEP_S = POLICY.interval_s / INTERVAL_ROWS
_AT_ONCE = 50  # rows whose order doesn't matter for the figures: those before a change


def watch(stream: Stream, seed: int) -> list[tuple[int, str, list[str]]]:
    """Give when drift began and ended: rows, 1 the first, and which signals it was."""
    drift = DriftWatch(make_baseline(stream.reference), POLICY, seed=seed)
    found: list[tuple[int, str, list[str]]] = []
    quiet = len(stream) if stream.change is None else stream.change
    start = 0
    while start < len(stream):
        end = min(start + _AT_ONCE, quiet) if start < quiet else start + 1
        columns = {name: values[start:end] for name, values in stream.rows.items()}
        for change in drift.add(columns, 1.8e9 + start * STEP_S):
            found.append((end, change.kind, [entry.signal for entry in change.signals]))
        if stream.change is not None and end > stream.change and drift.is_drifted:
            break
        start = end
    return found
