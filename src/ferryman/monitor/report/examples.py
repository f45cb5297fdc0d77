"""Requests that show what moved: of payloads that were kept, those most like before and those furthest from it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ferryman.monitor.report.facts import Example, SignalReport, VersionReport
from ferryman.monitor.report.samples import Shown
from ferryman.monitor.report.traffic import Range
from ferryman.monitor.report.words import drifted_signals
from ferryman.monitor.store.columns import signal_column
from ferryman.monitor.store.engine import name as quoted
from ferryman.monitor.store.payloads import Payload, payloads
from ferryman.monitor.store.query import Reader

_MOST_SIGNALS, _MOST_EACH = 3, 2
_MOST_IDS = 5000  # the newest
_MOST_TEXT = 300
_LOW, _MIDDLE, _HIGH = 4, 20, 36  # places of 10, 50 and 90 % among the ranks

Value = float | str
Found = Sequence[tuple[str, Value]]  # ids of requests with the signal's value


def with_examples(
    folder: Path, reader: Reader, within: Range, versions: Sequence[VersionReport]
) -> list[VersionReport]:
    """Add examples to the three strongest signals of each version that moved; requests of one item only."""
    kept = [one for one in payloads(folder) if within.since_s <= one.at_s < within.until_s]
    return [_with_examples(one, reader, within, kept) for one in versions] if kept else list(versions)


def _with_examples(one: VersionReport, reader: Reader, within: Range, kept: Sequence[Payload]) -> VersionReport:
    own = [payload for payload in kept if (payload.model, payload.version) == (one.model, one.version)]
    asked = {payload.id: payload for payload in own if payload.kind != "answer"}
    asked = dict(list(asked.items())[-_MOST_IDS:])
    drifted = drifted_signals(one)
    moved = [signal.name for signal in one.signals if signal.has_moved or signal.name in drifted][:_MOST_SIGNALS]
    if not asked or not moved:
        return one
    shown = Shown(reader, own)
    signals = []
    for signal in one.signals:
        if signal.name not in moved:
            signals.append(signal)
            continue
        before, after = choose(signal, _values(reader, one, within, signal, list(asked)))
        signals.append(
            replace(
                signal,
                examples_before=[_example(asked[name], value, shown) for name, value in before],
                examples_after=[_example(asked[name], value, shown) for name, value in after],
            )
        )
    return replace(one, signals=signals)


def choose(signal: SignalReport, found: Found) -> tuple[Found, Found]:
    """Give those nearest to the middle of before, and those furthest from it on the side to which it moved.

    Of a category: those of the one that lost most, and of the one that gained most.
    """
    if isinstance(signal.before, Mapping) or isinstance(signal.after, Mapping):
        shares, now = dict(signal.before), dict(signal.after)  # type: ignore[arg-type]  # both are mappings, or neither
        gains = {name: now.get(name, 0.0) - shares.get(name, 0.0) for name in [*shares, *now]}
        if not gains:
            return [], []
        least, most = min(gains, key=lambda name: gains[name]), max(gains, key=lambda name: gains[name])
        of = {name: [one for one in found if one[1] == name][-_MOST_EACH:] for name in (least, most)}
        return of[least], of[most]
    if not signal.before or not signal.after:
        return [], []
    low, middle, high = (signal.before[place] for place in (_LOW, _MIDDLE, _HIGH))
    side = signal.after[_MIDDLE] - middle
    numbers = [(name, value) for name, value in found if isinstance(value, float)]
    usual = [one for one in numbers if low <= one[1] <= high]
    odd = [one for one in numbers if (one[1] < low and side <= 0) or (one[1] > high and side >= 0)]
    return (
        sorted(usual, key=lambda one: abs(one[1] - middle))[:_MOST_EACH],
        sorted(odd, key=lambda one: -abs(one[1] - middle))[:_MOST_EACH],
    )


def _values(reader: Reader, one: VersionReport, within: Range, signal: SignalReport, ids: list[str]) -> Found:
    column = quoted(signal_column("s" if signal.kind == "number" else "c", signal.name))
    rows = reader.select(
        f"SELECT id, any_value({column}) FROM records WHERE item IS NOT NULL AND model = $1 AND version = $2 "  # noqa: S608 - of quoted names
        f"AND at_s < $3 AND list_contains($4, id) GROUP BY id HAVING count(*) = 1 AND any_value({column}) IS NOT NULL "
        "ORDER BY any_value(at_s)",
        [one.model, one.version, within.until_s, ids],
    ).rows
    return [(row[0], row[1] if isinstance(row[1], str) else float(row[1])) for row in rows]


def _example(payload: Payload, value: Value, shown: Shown) -> Example:
    sample = shown.sample(payload) if payload.kind == "picture" else None
    return Example(payload.id, payload.at_s, payload.why, value, sample, "" if sample else _text(payload))


def _text(payload: Payload) -> str:
    if payload.kind == "picture":
        return ""
    try:
        with payload.path.open("rb") as stream:
            read = stream.read(4 * _MOST_TEXT).decode("utf-8", "replace")
    except OSError:
        return ""
    return read if len(read) <= _MOST_TEXT else f"{read[:_MOST_TEXT]} ..."
