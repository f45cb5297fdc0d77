"""What a report says in words."""

from collections.abc import Mapping
from typing import Any

from ferryman.monitor.alerts.fact import FAULTS
from ferryman.monitor.report.facts import Report, VersionReport
from ferryman.monitor.report.svg import clock, figure

_MOST_TOLD = 5
LOSS_WORDS = {
    "queue_full": "the watch took them too slowly",
    "too_large": "too large to be told",
    "killed": "the watch was killed while it dealt with them",
    "disk_low": "little room on the disk",
    "disk_full": "the disk was full",
    "disk_error": "the disk could not be written",
    "unreadable": "could not be read by the watch",
    "unwritable": "could not be written as JSON",
    "shortened": "kept, with texts cut at 1,024 characters",
}
"""Reasons of losses; others are told by their own names."""


def headline(report: Report) -> tuple[bool, str]:
    """Say in one sentence whether all is well, and why not."""
    if not report.versions:
        return True, "No requests were recorded in this range."
    faults = []
    firing = [alert for alert in report.alerts if alert.get("state") == "firing"]
    if firing:
        faults.append(f"{len(firing)} alert{'s' * (len(firing) > 1)} firing")
    drifted = sorted({f"{one.model} {one.version}" for one in report.versions if has_drifted(one)})
    if drifted:
        faults.append(f"drift in {', '.join(drifted)}")
    late = [one for one in report.versions if is_late(one)]
    if late:
        faults.append(f"p99 over its promise in {', '.join(f'{one.model} {one.version}' for one in late)}")
    if faults:
        return False, f"{'; '.join(faults)}."
    return True, "No drift, no alert that still fires, no promise broken."


def has_drifted(one: VersionReport) -> bool:
    """Tell whether the watch raised drift in the range; without its diary, whether a signal moved beyond doubt."""
    return bool(one.drift) or (one.requests is None and any(signal.has_moved for signal in one.signals))


def is_late(one: VersionReport) -> bool:
    """Tell whether the p99 of answers is over what the contract promises."""
    return one.p99_s is not None and one.promised_p99_s is not None and one.p99_s > one.promised_p99_s


def availability(requests: Mapping[str, int] | None) -> float | None:
    """Give the share answered of requests that the caller got right; None where that isn't known."""
    if requests is None:
        return None
    good, failed = requests.get("ok", 0), sum(requests.get(fault, 0) for fault in FAULTS)
    return good / (good + failed) if good + failed else None


def moves(one: VersionReport) -> list[str]:
    """Say what moved of a version: the watch's own words of when it saw it, then what the range as a whole tells."""
    told = []
    for change in one.drift:
        texts = [str(moved.get("text", "")) for moved in change.get("moved", ()) if isinstance(moved, Mapping)]
        what = "Drift began" if change.get("change") == "began" else "Drift ended"
        told.append(
            f"{clock(change['at'])}: {what}: {'; '.join(texts[:3])}." if texts else f"{clock(change['at'])}: {what}."
        )
    told += [f"{signal.text}." for signal in one.signals if signal.has_moved][:_MOST_TOLD]
    return told


def drifted_signals(one: VersionReport) -> set[str]:
    """Name the signals that the watch saw drift in the range, for however short a time."""
    moved = [each for change in one.drift for each in change.get("moved", ())]
    return {str(each.get("signal", "")) for each in moved if isinstance(each, Mapping)}


def served(one: VersionReport) -> str:
    """Say when a version was served."""
    if not one.served:
        return f"{clock(one.first_s)} to {clock(one.last_s)} (first and last record)"
    spans = [f"{clock(low)} to {clock(high) if high is not None else 'now'}" for low, high in one.served[-3:]]
    more = f"{len(one.served) - 3} times before, " if len(one.served) > 3 else ""
    return more + ", ".join(spans)


def alert_line(alert: Mapping[str, Any]) -> tuple[str, str]:  # JSON
    """Give when an alert fired, and how long."""
    since_s, ended_s = alert.get("since"), alert.get("ended")
    began = clock(since_s) if isinstance(since_s, int | float) else figure(None)
    if not isinstance(ended_s, int | float) or not isinstance(since_s, int | float):
        return began, "it still fires" if alert.get("state") == "firing" else ""
    return began, f"{(ended_s - since_s) / 60:.1f} min, until {clock(ended_s)}"
