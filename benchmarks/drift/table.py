"""The bench's figures as Markdown."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from benchmarks.drift.streams import AFTER, INTERVAL_ROWS

OURS = "Ferryman"
Rows = Sequence[dict[str, Any]]  # JSON


def write_table(results: Rows) -> str:
    """Write false alarms and delays of every tool, then delays of each change."""
    tools = list(dict.fromkeys(row["tool"] for row in results))
    lines = [
        f"| tool | false alarms in {INTERVAL_ROWS:,} clean rows | clean rows | by chance |"
        " median delay, sudden | 90 % | missed | median delay, gradual | 90 % | missed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for tool in tools:
        own = [row for row in results if row["tool"] == tool]
        clean = [row for row in own if row["how"] == "clean"]
        rows = sum(row["rows"] for row in clean)
        alarms = sum(row["false_alarms"] for row in clean)
        # The median of what an alarm clock of that rate would take: how soon a tool is right by being always loud.
        chance = f"{np.log(2) * rows / alarms:,.0f}" if alarms else "never"
        cells = [tool, f"{alarms / max(rows, 1) * INTERVAL_ROWS:.2f}", f"{rows:,}", chance]
        if on := [row["windows_in_alarm"] for row in clean if "windows_in_alarm" in row]:
            cells[1] += f" (in alarm {float(np.mean(on)):.0%} of the time)"
        for how in ("sudden", "gradual"):
            cells += _delays([row for row in own if row["how"] == how])
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"| change | {' | '.join(tools)} |", f"|---|{'---|' * len(tools)}"]
    for stream, how in dict.fromkeys((row["stream"], row["how"]) for row in results if row["how"] != "clean"):
        cells = [f"{stream}, {how}"]
        for tool in tools:
            own = [row for row in results if (row["stream"], row["how"], row["tool"]) == (stream, how, tool)]
            middle, late, missed = _delays(own)
            cells.append(f"{middle} ({late}; {missed})" if own else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _delays(rows: Rows) -> list[str]:
    """Give median, 90th percentile and misses; what was missed, or was on before, counts as longer than all."""
    delays = np.asarray([np.inf if row["delay"] is None or row.get("was_on") else row["delay"] for row in rows])
    if not delays.size:
        return ["", "", ""]
    middle, late = np.quantile(delays, [0.5, 0.9], method="higher")
    return [*(f"> {AFTER}" if np.isinf(each) else f"{each:.0f}" for each in (middle, late)), _share(delays)]


def _share(delays: Any) -> str:  # an array of floats
    return f"{int(np.isinf(delays).sum())} of {len(delays)}"
