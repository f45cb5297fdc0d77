"""What rules are held against: the front's figures, drift, and the machine."""

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
    """Give the share of the disk that is free where records are kept, and how many records were lost."""
    yield Reading("records_lost", float(lost))
    if folder is not None:
        try:
            usage = shutil.disk_usage(folder)
        except OSError:
            return
        yield Reading("disk", usage.free / usage.total)
