"""Read a folder that a server was given (`--monitor`), and make the report of a range of it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ferryman.core.errors import UserError
from ferryman.monitor.baseline import Baseline
from ferryman.monitor.report.diary import Event, read_baseline, read_events
from ferryman.monitor.report.examples import with_examples
from ferryman.monitor.report.facts import Report, SignalReport, Slot, VersionReport
from ferryman.monitor.report.samples import read_samples
from ferryman.monitor.report.signals import RANKS, compare_signals, earlier, follow
from ferryman.monitor.report.traffic import (
    ONE_A_REQUEST,
    Counted,
    Key,
    Range,
    Totals,
    count_traffic,
    make_range,
    read_slots,
    read_totals,
)
from ferryman.monitor.store.layout import records_in
from ferryman.monitor.store.query import Reader, Scope

_MOST_VERSIONS = 20
_LONGEST_S = 100 * 366 * 86400.0
_DIARY = "diary"


@dataclass(frozen=True, slots=True)
class Asked:
    """Say which part of a folder is meant; None where it doesn't matter. `baselines` are of bundles, by model."""

    since_s: float
    until_s: float
    model: str | None = None
    version: str | None = None
    baselines: Mapping[str, Baseline] | None = None


def gather(folder: Path, asked: Asked) -> Report:
    """Make the report; raises UserError for a folder without records or a range that ends before it begins."""
    if not asked.since_s < asked.until_s <= asked.since_s + _LONGEST_S:
        raise UserError("the range ends before it begins, or is longer than a century", hint="--since 7d")
    records, diary = _places(folder)
    every = [event for event in read_events(diary) if _is_asked(event, asked)]
    with Reader(records, Scope(asked.model, asked.version, since_s=asked.since_s)) as reader:
        within = make_range(_first_s(reader, every, asked), asked.until_s)
        events = [event for event in every if within.since_s <= event["at"] < within.until_s]
        totals, is_exact = read_totals(reader, within)
        counted = count_traffic(events, within)
        totals |= {key: _unrecorded(of) for key, of in counted.items() if key not in totals}
        slots = read_slots(reader, within, counted)
        chosen = sorted(totals, key=lambda key: (-_weight(key, totals, counted), key))[:_MOST_VERSIONS]
        versions = [
            _version(key, totals[key], slots.get(key, []), counted.get(key), every, within) for key in sorted(chosen)
        ]
        befores = _baselines(records, diary, versions, asked, within)
        versions = [_with_signals(one, reader, within, befores.get((one.model, one.version))) for one in versions]
        versions = with_examples(records, reader, within, versions)
        samples, payloads = read_samples(records, reader, within, {one.model for one in versions})
        [(later,)] = reader.select(
            f"SELECT count(*) FROM records WHERE {ONE_A_REQUEST} AND at_s >= $1",  # noqa: S608 - our own words
            [within.until_s],
        ).rows
        skipped = reader.skipped
    return Report(
        made_s=asked.until_s, since_s=within.since_s, until_s=within.until_s, slot_s=within.slot_s, ranks=RANKS,
        versions=versions, left_out=len(totals) - len(chosen), later=later, alerts=_episodes(every, within),
        actions=_actions(every, within),
        losses=_losses(events), samples=samples, payloads=payloads, skipped=skipped,
        notes=_notes(has_diary=bool(every), is_exact=is_exact, versions=versions),
    )  # fmt: skip


def _first_s(reader: Reader, every: Iterable[Event], asked: Asked) -> float:
    """Give when the first thing of the range was told: a server of an hour's age fills a page about a week."""
    [(record_s,)] = reader.select("SELECT min(at_s) FROM records WHERE at_s < $1", [asked.until_s]).rows
    times = [event["at"] for event in every if asked.since_s <= event["at"] < asked.until_s]
    is_served = any(event["at"] < asked.since_s for event in every)  # and so from the range's beginning on
    told = [record_s] * (record_s is not None) + times
    return max(asked.since_s, min(told)) if told and not is_served else asked.since_s


def _weight(key: Key, totals: Mapping[Key, Totals], counted: Mapping[Key, Counted]) -> int:
    return max(totals[key].records, counted[key].outcomes.total() if key in counted else 0)


def _places(folder: Path) -> tuple[Path, Path]:
    """Give the folders of records and of the diary, whichever of them was named."""
    records = records_in(folder)
    return records, (folder.parent if records == folder else folder) / _DIARY


def _is_asked(event: Event, asked: Asked) -> bool:
    is_model = asked.model is None or event.get("model", "") in ("", asked.model)
    return is_model and (asked.version is None or event.get("version", "") in ("", asked.version))


def _version(
    key: Key, totals: Totals, slots: Sequence[Slot], counted: Counted | None, every: Iterable[Event], within: Range
) -> VersionReport:
    own = [event for event in every if (event.get("model"), event.get("version")) == key]
    began = [event for event in own if event["kind"] == "served" and event["at"] < within.until_s]
    promised = began[-1].get("p99_s") if began else None
    p50_s, p90_s, p99_s, max_s = totals.latency
    return VersionReport(
        model=key[0], version=key[1], digest=str(began[-1].get("digest", "")) if began else "",
        records=totals.records, looked_into=totals.looked_into, items=totals.items, first_s=totals.first_s,
        last_s=totals.last_s, outcomes=totals.outcomes, requests=dict(counted.outcomes) if counted else None,
        p50_s=p50_s, p90_s=p90_s, p99_s=p99_s, max_s=max_s, stages=totals.stages, slots=slots,
        cpu_s=counted.cpu_s if counted is not None and counted.cpu_s else None,
        served=_spans(own, within), promised_p99_s=promised if isinstance(promised, int | float) else None,
        drift=_drift(own, within),
    )  # fmt: skip


def _drift(own: Sequence[Event], within: Range) -> list[Event]:
    """Give when drift began and ended within the range, and of one that lasted into it when it began."""
    told = [event for event in own if event["kind"] == "drift" and event["at"] < within.until_s]
    before = [event for event in told if event["at"] < within.since_s][-1:]
    lasting = [event for event in before if event.get("change") == "began"]
    return lasting + [event for event in told if event["at"] >= within.since_s]


def _unrecorded(counted: Counted) -> Totals:
    """Give totals of a version that was asked, and of which no record was kept."""
    return Totals(0, 0, 0, min(counted.by_slot), max(counted.by_slot), [None] * 4, {})


def _spans(own: Sequence[Event], within: Range) -> list[tuple[float, float | None]]:
    """Give when a version was served within the range; a server that was killed left at its last word of it."""
    spans: list[tuple[float, float | None]] = []
    began_s: float | None = None
    last_s = 0.0
    for event in own:
        if event["kind"] == "served":
            if began_s is not None:
                spans.append((began_s, max(last_s, began_s)))
            began_s = event["at"]
        elif event["kind"] == "left" and began_s is not None:
            spans.append((began_s, max(event["at"], began_s)))
            began_s = None
        last_s = event["at"]
    if began_s is not None:
        spans.append((began_s, None))
    return [(low, high) for low, high in spans if low < within.until_s and (high is None or high >= within.since_s)]


def _baselines(
    records: Path, diary: Path, versions: Sequence[VersionReport], asked: Asked, within: Range
) -> dict[Key, tuple[str, Baseline]]:
    """Give what signals are set beside: a bundle's baseline, else the records of as long a time before the range."""
    found: dict[Key, tuple[str, Baseline]] = {}
    missing: list[Key] = []
    for one in versions:
        key = (one.model, one.version)
        given = read_baseline(diary, one.digest) if one.digest else None
        given = given or (asked.baselines or {}).get(one.model)
        if given is not None:
            found[key] = ("baseline", given)
        elif one.items:
            missing.append(key)
    if missing:
        before = Range(2 * within.since_s - within.until_s, within.since_s, within.slot_s)
        with Reader(records, Scope(asked.model, asked.version, before.since_s, before.until_s)) as reader:
            for key in missing:
                if (made := earlier(reader, key, before)) is not None:
                    found[key] = ("records", made)
    return found


def _with_signals(
    one: VersionReport, reader: Reader, within: Range, before: tuple[str, Baseline] | None
) -> VersionReport:
    if before is None or not one.items:
        return one
    key = (one.model, one.version)
    signals = compare_signals(reader, key, within, before[1])
    moments = follow(reader, key, within, [signal.name for signal in signals if signal.kind == "number"])
    shown: list[SignalReport] = [replace(signal, over_time=moments.get(signal.name, ())) for signal in signals]
    return replace(one, before=before[0], signals=shown)


def _episodes(events: Iterable[Event], within: Range) -> list[dict[str, Any]]:  # JSON
    """Give the last word of each time that an alert fired, of those that fired within the range, the newest first."""
    last: dict[tuple[object, object], dict[str, Any]] = {}
    for event in events:
        if event["kind"] == "alert" and event["at"] < within.until_s:
            told = {key: value for key, value in event.items() if key != "kind"}
            last[event.get("id"), event.get("episode")] = told
    inside = [one for one in last.values() if one.get("state") == "firing" or one["at"] >= within.since_s]
    return sorted(inside, key=lambda one: -one["at"])


def _actions(events: Iterable[Event], within: Range) -> list[dict[str, Any]]:  # JSON
    """Give the last word of each action that began, was under way or ended within the range, the newest first."""
    last: dict[object, dict[str, Any]] = {}
    for event in events:
        if event["kind"] == "action" and event["at"] < within.until_s:
            last[event.get("id")] = {key: value for key, value in event.items() if key != "kind"}
    inside = [one for one in last.values() if not one.get("outcome") or one["at"] >= within.since_s]
    return sorted(inside, key=lambda one: -one["at"])


def _losses(events: Iterable[Event]) -> dict[str, int]:
    lost: Counter[str] = Counter()
    for event in events:
        if event["kind"] == "lost" and isinstance(event.get("reasons"), Mapping):
            lost.update({str(why): n for why, n in event["reasons"].items() if isinstance(n, int) and n > 0})
    return dict(sorted(lost.items()))


def _notes(*, has_diary: bool, is_exact: bool, versions: Sequence[VersionReport]) -> list[str]:
    notes = []
    if not has_diary:
        notes.append(
            "There is no diary beside the records: all requests, alerts, losses and when versions were served "
            "are not known. Shares of errors can't be told, as records hold every failure and only some answers."
        )
    if not is_exact:
        notes.append("There are over 2 million requests: percentiles of them are approximate.")
    if any(one.before == "records" for one in versions):
        notes.append("Without a baseline, signals are set beside the records of as long a time before the range.")
    if any(one.items and not one.before for one in versions):
        notes.append("There is neither a baseline nor enough earlier records to set some versions' signals beside.")
    return notes
