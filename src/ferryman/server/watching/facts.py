"""What rules are held against: the front's figures, drift, and the machine."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ferryman.monitor.alerts.fact import FAULTS, Fact, Kind, Reading, Traffic
from ferryman.monitor.resources.machine import Figures

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


def of_machine(figures: Figures, lost: int) -> Iterator[Fact]:
    """Give how the machine is, and how many records were lost."""
    yield Reading("records_lost", float(lost))
    yield Reading("temperature", figures.temperature_c)
    yield Reading("slowed", figures.slowed)
    yield Reading("quota", figures.quota_used_up)
    yield Reading("disk", figures.disk_free)
