"""Show what `ferryman tune` found as a table."""

from collections.abc import Sequence

from ferryman.core.bundle import Choice, Tuning
from ferryman.server.tuning.serving import describe
from ferryman.verify.columns import Cell, Column, Paint, rows
from ferryman.verify.figures import figure


def plan_text(candidates: Sequence[Choice], rounds: Sequence[tuple[int, float]]) -> str:
    """Give the ways that a search would try, and how long."""
    lines = [describe(choice) for choice in candidates]
    for place, (number, seconds) in enumerate(rounds, start=1):
        lines.append(f"round {place}: {number} of them, {seconds:.1f} s each and its start")
    return "\n".join(lines) + "\n"


def tuning_table(tuning: Tuning, paint: Paint) -> str:
    """Give the curve: rates, what was answered, and latencies with the interval of p99."""
    points = tuning.curve
    columns = [
        _figures("requests/s", [point.rate_rps for point in points], 1),
        _figures("answered/s", [point.achieved_rps for point in points], 1),
        _figures("n", [float(point.sent) for point in points], 0),
        _figures("refused", [float(point.refused) for point in points], 0),
        _figures("lost", [float(point.lost + point.failed) for point in points], 0),
        _figures("p50 ms", [point.p50_ms for point in points], 2),
        _figures("p99 ms", [point.p99_ms for point in points], 2),
        _figures("from", [point.p99_low_ms for point in points], 2),
        _figures("to", [point.p99_high_ms for point in points], 2),
    ]
    return "\n".join(rows(columns, paint)) + "\n"


def _figures(heading: str, values: Sequence[float | None], digits: int) -> Column:
    return Column(heading, tuple(Cell(figure(value, digits)) for value in values))
