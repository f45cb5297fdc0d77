"""Elec2 as a stream whose labels come late: is drift told before the accuracy is lost?"""

import json
from pathlib import Path

import numpy as np
from benchmarks.drift.tables import read_elec
from numpy.typing import NDArray

from ferryman.core.contract import DriftPolicy
from ferryman.monitor.baseline import make_baseline
from ferryman.monitor.drift.watch import DriftWatch

HALF_HOUR_S = 1800.0
_WINDOW = 48 * 28  # the rolling accuracy: four weeks of half hours
_LATE = 48 * 7  # labels come a week later
_LOSS = 0.05


def follow_elec(data: Path, output: Path) -> None:
    """Write when the watch told of drift, and when the accuracy was lost, as JSON and as a figure."""
    elec = read_elec(data)
    begin = elec.fitted
    table = elec.table(elec.rows, elec.probability)
    baseline = make_baseline({name: values[:begin] for name, values in table.items()})
    watch = DriftWatch(baseline, DriftPolicy(false_alarms="1 per 30 days"))
    changes = []
    for row in range(begin, len(elec.rows)):
        columns = {name: values[row : row + 1] for name, values in table.items()}
        for change in watch.add(columns, 9e8 + row * HALF_HOUR_S):
            changes.append(
                {"row": row - begin, "kind": change.kind, "signals": [entry.text for entry in change.signals[:3]]}
            )
    right = (elec.probability > 0.5) == elec.truth
    before = float(right[:begin].mean())
    rolling = np.convolve(right[begin:], np.ones(_WINDOW) / _WINDOW, "valid")  # at the row that ends each window
    lost = int(np.argmax(rolling < before - _LOSS)) + _WINDOW - 1
    told = {
        "accuracy_on_the_baseline": round(before, 4),
        "rows_before_5_points_are_lost": lost,
        "rows_before_late_labels_tell": lost + _LATE,
        "changes": changes,
    }
    (output / "elec2.json").write_text(json.dumps(told, indent=1) + "\n")
    (output / "elec2.svg").write_text(_figure(rolling, before, lost, changes))
    print(json.dumps(told | {"changes": changes[:4]}, indent=1))


def _figure(rolling: NDArray[np.float64], before: float, lost: int, changes: list[dict[str, object]]) -> str:
    rows = len(rolling) + _WINDOW - 1
    left, top, width, height, low, high = 50, 20, 700, 240, 0.55, 0.9

    def place(row: float, value: float) -> str:
        return f"{left + row / rows * width:.1f},{top + (high - value) / (high - low) * height:.1f}"

    step = 60
    line = " ".join(place(at + _WINDOW - 1, float(rolling[at])) for at in range(0, len(rolling), step))
    parts = []
    start: float | None = None
    for change in [*changes, {"row": rows, "kind": "ended"}]:
        row = float(str(change["row"]))
        if change["kind"] == "began":
            start = row
        elif start is not None:
            x, end = left + start / rows * width, left + row / rows * width
            parts.append(
                f'<rect x="{x:.1f}" y="{top}" width="{max(end - x, 1):.1f}" height="{height}" fill="#f4c7c3"/>'
            )
            start = None
    for value in (0.6, 0.7, 0.8, 0.9):
        y = place(0, value).split(",")[1]
        parts.append(f'<path d="M{left} {y}H{left + width}" stroke="#ddd"/><text x="12" y="{y}">{value:.1f}</text>')
    for value, words in ((before, "on the baseline"), (before - _LOSS, "5 points lost")):
        y = float(place(0, value).split(",")[1])
        parts.append(f'<path d="M{left} {y}H{left + width}" stroke="#888" stroke-dasharray="4"/>')
        parts.append(f'<text x="{left + width - 110}" y="{y - 4}">{words}</text>')
    x = float(place(lost, 0).split(",")[0])
    parts.append(f'<path d="M{x} {top}V{top + height}" stroke="#000"/>')
    parts.append(f'<polyline points="{line}" fill="none" stroke="#1a56c4" stroke-width="1.5"/>')
    title = "Elec2: accuracy over four weeks (line), drift told by the watch (red), from the first row that is served"
    words = f'<text x="{left}" y="{top + height + 22}">{title}</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 20}" height="{top + height + 40}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
        f"{''.join(parts)}{words}</svg>\n"
    )
