"""Say how a release stands with the boxes that are due, and whether it goes on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ferryman.fleet.release import Release

Verdict = Literal["go on", "wait", "halt", "complete", "halted"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Say what a stage may cost: shares of the boxes that are due, and when a box counts as silent.

    More than `max_failed` of them failed, or unwell with the new bundle: the release is halted. It goes on when at
    least `min_done` of those that aren't silent serve it well.
    """

    max_failed: float = 0.0
    min_done: float = 0.9
    silent_s: float = 900.0


@dataclass(frozen=True, slots=True)
class Standing:
    """Count the boxes that are due by how they stand; `others` aren't due. `failures` are reasons by box."""

    done: int
    failed: int
    pending: int
    silent: int
    others: int
    failures: Mapping[str, str]
    verdict: Verdict

    @property
    def due(self) -> int:
        """Give how many boxes are due, as far as they have ever reported."""
        return self.done + self.failed + self.pending + self.silent


def judge(release: Release, boxes: Iterable[Mapping[str, Any]], limits: Limits) -> Standing:  # JSON: last statuses
    """Judge a release by the last status of each box."""
    counts = {"done": 0, "failed": 0, "pending": 0, "silent": 0, "others": 0}
    failures: dict[str, str] = {}
    for box in boxes:
        how, reason = _stand(release, box, limits)
        counts[how] += 1
        if how == "failed":
            failures[str(box["box"])] = reason
    return Standing(**counts, failures=failures, verdict=_verdict(release, counts, limits))


def _stand(release: Release, box: Mapping[str, Any], limits: Limits) -> tuple[str, str]:
    if not release.is_due(str(box["box"]), str(box["group"])):
        return "others", ""
    failed, serves = dict(box.get("failed") or {}), box.get("serving") == release.bundle
    if release.bundle in failed and not serves:
        return "failed", str(failed[release.bundle])
    if box["silent_s"] > limits.silent_s:
        return "silent", ""  # it may be switched off: that says nothing against the bundle
    if serves and box.get("unwell"):
        return "failed", str(box["unwell"])
    return ("done" if serves else "pending"), ""


def _verdict(release: Release, counts: Mapping[str, int], limits: Limits) -> Verdict:
    if release.is_halted:
        return "halted"
    due = counts["done"] + counts["failed"] + counts["pending"] + counts["silent"]
    if counts["failed"] > limits.max_failed * due:
        return "halt"
    awake = due - counts["silent"]
    if not awake or counts["done"] < limits.min_done * awake:
        return "wait"
    return "complete" if release.is_complete else "go on"
