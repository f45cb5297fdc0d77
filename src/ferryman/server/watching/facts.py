"""What rules are held against: the front's figures, drift, and the machine."""

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ferryman.monitor.alerts.fact import FAULTS, Fact, Kind, Reading, Traffic

_READINGS: tuple[Kind, ...] = ("ready", "golden", "memory")


def of_versions(figures: Sequence[Mapping[str, Any]]) -> Iterator[Fact]:  # JSON: control.watch_figures
    """Give the traffic of each version, and how its workers are, as far as that is known."""
    for each in figures:
        model, version, outcomes = each["model"], each["version"], each["outcomes"]
        failed = sum(outcomes.get(fault, 0) for fault in FAULTS)
        yield Traffic(model, version, outcomes.get("ok", 0), failed, each["slow"])
        for kind in _READINGS:
            if each[kind] is not None:
                yield Reading(kind, each[kind], model, version)


def of_drift(states: Sequence[Mapping[str, Any]]) -> Iterator[Fact]:  # JSON: DriftWatch.state
    """Give whether each version's requests have drifted, and what moved."""
    for state in states:
        detail = "; ".join(moved["text"] for moved in state["moved"][:3])
        yield Reading("drift", float(state["drifted"]), state["model"], state["version"], detail)


def of_machine(folder: Path | None, lost: int) -> Iterator[Fact]:
    """Give the disk that is free where records are kept, the temperature, and how many records were lost."""
    yield Reading("records_lost", float(lost))
    yield Reading("temperature", hottest_c())
    if folder is not None:
        yield Reading("disk", free_share(folder))


def hottest_c() -> float:
    """Give the degrees Celsius of the hottest part that the kernel knows of; NaN where it tells none."""
    found = []
    for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp"):
        try:
            found.append(int(zone.read_text()) / 1000)
        except (OSError, ValueError):
            continue
    return max(found, default=math.nan)


def free_share(folder: Path) -> float:
    """Give the share of a folder's disk that is free; NaN where that can't be told."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return math.nan
    return usage.free / usage.total
