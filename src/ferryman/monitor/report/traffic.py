"""Requests of a range: how many, how they ended, how long they took; of records, and of the diary's counts."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ferryman.monitor.alerts.fact import FAULTS
from ferryman.monitor.report.diary import Event
from ferryman.monitor.report.facts import Slot
from ferryman.monitor.store.query import Reader

Key = tuple[str, str]
"""Model and version."""

ONE_A_REQUEST = "(item IS NULL OR item = 0)"
_WIDTHS_S = (60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 86400.0, 7 * 86400.0, 28 * 86400.0)
_MOST_SLOTS = 200
_EXACT = 2_000_000
_STAGES = ("queue_s", "prepare_s", "infer_s", "finish_s")
_FAULTS = ", ".join(f"'{word}'" for word in FAULTS)


@dataclass(frozen=True, slots=True)
class Range:
    """Hold a range of Unix times, its end left out, and the width of the spans that it is told in."""

    since_s: float
    until_s: float
    slot_s: float


@dataclass(frozen=True, slots=True)
class Totals:
    """Hold what a version's records came to; see VersionReport."""

    records: int
    looked_into: int
    items: int
    first_s: float
    last_s: float
    latency: Sequence[float | None]  # p50, p90, p99, largest
    stages: Mapping[str, float | None]
    outcomes: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Counted:
    """Hold what the diary counted of all requests of a version: whole, and by span."""

    outcomes: Counter[str] = field(default_factory=Counter)
    cpu_s: float = 0.0
    by_slot: dict[float, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))


def make_range(since_s: float, until_s: float) -> Range:
    """Choose spans of a round width: at most 200 of them, hours for a week."""
    fit = (width for width in _WIDTHS_S if (until_s - since_s) / width <= _MOST_SLOTS)
    return Range(since_s, until_s, next(fit, (until_s - since_s) / _MOST_SLOTS))


def read_totals(reader: Reader, within: Range) -> tuple[dict[Key, Totals], bool]:
    """Give what each version's records came to, and whether its quantiles are exact: beyond 2 million they are not."""
    rows = reader.select(f"SELECT count(*) FROM records WHERE {ONE_A_REQUEST} AND at_s < $1", [within.until_s]).rows  # noqa: S608 - our own words
    is_exact = rows[0][0] <= _EXACT
    stages = ", ".join(f"avg({stage}) FILTER (outcome = 'ok' AND {ONE_A_REQUEST})" for stage in _STAGES)
    answered = f"FILTER (outcome = 'ok' AND {ONE_A_REQUEST} AND isfinite(total_s))"
    found = reader.select(
        f"SELECT model, version, count(*) FILTER ({ONE_A_REQUEST}), count(*) FILTER (item = 0), count(item), "  # noqa: S608 - our own words
        f"min(at_s), max(at_s), {_quantile(is_exact)}(total_s, [0.5, 0.9, 0.99]) {answered}, max(total_s) {answered}, "
        f"{stages} FROM records WHERE at_s < $1 GROUP BY model, version ORDER BY model, version",
        [within.until_s],
    ).rows
    outcomes: dict[Key, dict[str, int]] = defaultdict(dict)
    for model, version, outcome, count in reader.select(
        f"SELECT model, version, outcome, count(*) FROM records WHERE {ONE_A_REQUEST} AND at_s < $1 "  # noqa: S608 - our own words
        "GROUP BY ALL ORDER BY count(*) DESC, outcome",
        [within.until_s],
    ).rows:
        outcomes[model, version][outcome] = count
    return {(row[0], row[1]): _totals(row, outcomes[row[0], row[1]]) for row in found}, is_exact


def read_slots(reader: Reader, within: Range, counted: Mapping[Key, Counted]) -> dict[Key, list[Slot]]:
    """Give what came in each span, by version; a span in which nothing came is left out."""
    is_failed = f"outcome IN ({_FAULTS})"
    answered = "FILTER (outcome = 'ok' AND isfinite(total_s))"
    rows = reader.select(
        f"SELECT model, version, floor(at_s / $2) * $2 AS slot, count(*), count(*) FILTER ({is_failed}), "  # noqa: S608 - our own words
        f"count(*) FILTER (outcome <> 'ok' AND NOT {is_failed}), approx_quantile(total_s, [0.5, 0.99]) {answered} "
        f"FROM records WHERE {ONE_A_REQUEST} AND at_s < $1 GROUP BY model, version, slot",
        [within.until_s, within.slot_s],
    ).rows
    slots: dict[Key, dict[float, Slot]] = defaultdict(dict)
    for model, version, at_s, records, failed, refused, times in rows:
        p50_s, p99_s = times or (None, None)
        slots[model, version][at_s] = Slot(at_s, records, failed, refused, p50_s, p99_s)
    for key, one in counted.items():
        for at_s, outcomes in one.by_slot.items():
            slot = slots[key].get(at_s, Slot(at_s, 0, 0, 0, None, None))
            failed = sum(outcomes[fault] for fault in FAULTS)
            slots[key][at_s] = Slot(
                at_s, slot.records, slot.failed, slot.refused, slot.p50_s, slot.p99_s, outcomes.total(), failed
            )
    return {key: [of[at_s] for at_s in sorted(of)] for key, of in slots.items()}


def count_traffic(events: Iterable[Event], within: Range) -> dict[Key, Counted]:
    """Add up what the diary counted within the range."""
    counted: dict[Key, Counted] = defaultdict(Counted)
    for event in events:
        if event["kind"] != "traffic" or not isinstance(event.get("outcomes"), Mapping):
            continue
        outcomes = {str(name): _count(count) for name, count in event["outcomes"].items()}
        one = counted[str(event.get("model", "")), str(event.get("version", ""))]
        one.outcomes.update(outcomes)
        one.cpu_s += _seconds(event.get("cpu_s"))
        one.by_slot[event["at"] // within.slot_s * within.slot_s].update(outcomes)
    return dict(counted)


def _quantile(is_exact: bool) -> str:
    return "quantile_cont" if is_exact else "approx_quantile"


def _totals(row: Sequence[Any], outcomes: Mapping[str, int]) -> Totals:  # what SQL gives
    _, _, records, looked_into, items, first_s, last_s, times, longest_s, *stages = row
    latency = [*(times or (None, None, None)), longest_s]
    return Totals(
        records, looked_into, items, first_s, last_s, latency, dict(zip(_STAGES, stages, strict=True)), outcomes
    )


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0 else 0.0


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
