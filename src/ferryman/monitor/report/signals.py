"""Signals of a range beside what they were before: counted by DuckDB at the baseline's own quantiles."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ferryman.monitor.baseline import OTHER, Baseline, CategoryBaseline, Floats, NumberBaseline, tidy
from ferryman.monitor.report.facts import Moment, SignalReport
from ferryman.monitor.report.traffic import Key, Range
from ferryman.monitor.store.columns import signal_column
from ferryman.monitor.store.engine import name as quoted
from ferryman.monitor.store.query import Reader

RANKS = tuple(round(step / 40, 3) for step in range(41))
"""Where quantiles are told: the least, 2.5 %, 5 % ... the largest."""

_MOST_EDGES = 33
_MOST_CATEGORIES = 1000
_BATCH = 25  # signals of one query
_ALPHA = 0.01  # of a whole report
_SHOWN = 12
_LARGEST = float(np.finfo(np.float32).max)


def compare_signals(reader: Reader, key: Key, within: Range, baseline: Baseline) -> list[SignalReport]:
    """Set each signal of a version beside its baseline, the one that moved most first."""
    held = held_signals(reader, key, within)
    numbers = {name: base for name, base in baseline.signals.items() if isinstance(base, NumberBaseline)}
    numbers = {name: base for name, base in numbers.items() if ("s", name) in held}
    texts = {name: base for name, base in baseline.signals.items() if isinstance(base, CategoryBaseline)}
    delta = _ALPHA / max(len(baseline.signals), 1)
    made = [
        one
        for part in _parts(sorted(numbers), _BATCH)
        for one in _compare_numbers(reader, key, within, {name: numbers[name] for name in part}, delta)
    ]
    made += [
        _compare_categories(reader, key, within, name, base, delta)
        for name, base in sorted(texts.items())
        if ("c", name) in held
    ]
    return sorted(made, key=lambda one: (-(one.distance - one.chance), one.name))


def follow(reader: Reader, key: Key, within: Range, signals: Sequence[str]) -> dict[str, list[Moment]]:
    """Give percentiles of numbers by span."""
    shown = list(signals[:_SHOWN])
    if not shown:
        return {}
    picked = ", ".join(
        f"approx_quantile({column}, [0.1, 0.5, 0.9]) FILTER (isfinite({column}))"
        for column in (quoted(signal_column("s", name)) for name in shown)
    )
    rows = reader.select(
        f"SELECT floor(at_s / $4) * $4 AS slot, {picked} FROM records "  # noqa: S608 - of quoted names
        f"WHERE {_OF_VERSION} GROUP BY slot ORDER BY slot",
        [*key, within.until_s, within.slot_s],
    ).rows
    return {
        name: [Moment(row[0], *row[place]) for row in rows if row[place] is not None]
        for place, name in enumerate(shown, 1)
    }


def earlier(reader: Reader, key: Key, within: Range) -> Baseline | None:
    """Describe a version's records, as those of the time before the range, as a baseline; None where there are few."""
    signals: dict[str, NumberBaseline | CategoryBaseline] = {}
    items = 0
    for kind, name in sorted(held_signals(reader, key, within)):
        if kind == "c":
            shares, count, total = _shares(reader, key, within, name, ())
            signals[name] = CategoryBaseline(total, 1 - count / max(total, 1), shares, len(shares), 0.0)
        else:
            count, total, quantiles = _quantiles(reader, key, within, [name])[name]
            if len(quantiles):
                missing = 1 - count / max(total, 1)
                low, high = float(quantiles[0]), float(quantiles[-1])
                signals[name] = NumberBaseline(count, missing, math.nan, math.nan, quantiles, low, high)
        items = max(items, count)
    return Baseline(signals, items) if items >= _FEWEST else None


_FEWEST = 30
_OF_VERSION = "item IS NOT NULL AND model = $1 AND version = $2 AND at_s < $3"


def held_signals(reader: Reader, key: Key, within: Range) -> set[tuple[str, str]]:
    """Give kind ("s", "c") and name of each signal that a version has any value of."""
    held: set[tuple[str, str]] = set()
    columns = [column for column in reader.columns if column[:2] in ("s_", "c_")]
    for part in _parts(columns, 200):
        counts = ", ".join(f"count({quoted(column)})" for column in part)
        [row] = reader.select(f"SELECT {counts} FROM records WHERE {_OF_VERSION}", [*key, within.until_s]).rows  # noqa: S608 - of quoted names
        held |= {(column[0], column[2:]) for column, count in zip(part, row, strict=True) if count}
    return held


def _compare_numbers(
    reader: Reader, key: Key, within: Range, baselines: Mapping[str, NumberBaseline], delta: float
) -> list[SignalReport]:
    edges = {name: _edges(base) for name, base in baselines.items()}
    # Rounded to float32 as baselines are, so that equal values stay equal.
    binned = ", ".join(
        f"histogram({_clipped(quoted(signal_column('s', name)))}, [{_listed(edges[name])}]::FLOAT[])"
        for name in baselines
    )
    [row] = reader.select(f"SELECT {binned} FROM records WHERE {_OF_VERSION}", [*key, within.until_s]).rows  # noqa: S608 - of quoted names
    quantiles = _quantiles(reader, key, within, list(baselines))
    made = []
    for (name, base), bins in zip(baselines.items(), row, strict=True):
        count, total, after = quantiles[name]
        before = np.quantile(base.quantiles, RANKS)
        places = edges[name]
        now = np.cumsum(list((bins or {}).values())[: len(places)]) / max(count, 1)
        expected = np.searchsorted(base.quantiles, places, "right") / len(base.quantiles)
        distance = float(np.abs(now - expected).max(initial=0.0)) if count else 0.0
        missing = 1 - count / max(total, 1)
        distance, chance, text = _judge_missing(name, base, missing, total, distance, count, delta)
        made.append(
            SignalReport(
                name, "number", count, missing, base.missing, distance, chance,
                text or _number_text(name, base, after), before.tolist(), after.tolist(),
            )
        )  # fmt: skip
    return made


def _compare_categories(
    reader: Reader, key: Key, within: Range, name: str, base: CategoryBaseline, delta: float
) -> SignalReport:
    after, count, total = _shares(reader, key, within, name, tuple(base.shares))
    before = dict(base.shares)
    if not base.is_whole:
        named = {category: after.get(category, 0.0) for category in base.shares if category != OTHER}
        after = {**named, OTHER: max(0.0, 1.0 - sum(named.values()))} if count else {}
    places = list(dict.fromkeys([*before, *after]))
    changes = {place: after.get(place, 0.0) - before.get(place, 0.0) for place in places}
    distance = sum(map(abs, changes.values())) / 2 if count else 0.0
    chance = _chance_of_shares(len(places), count, delta) + _chance_of_shares(len(places), base.count, delta)
    most = max(changes, key=lambda place: abs(changes[place]), default="")
    new = " (new)" if most and most not in before else ""
    text = f"{name}: '{most}'{new} {before.get(most, 0.0):.1%} -> {after.get(most, 0.0):.1%} of items"
    missing = 1 - count / max(total, 1)
    distance, chance, told = _judge_missing(name, base, missing, total, distance, count, delta, chance=chance)
    return SignalReport(name, "category", count, missing, base.missing, distance, chance, told or text, before, after)


def _judge_missing(  # noqa: PLR0913 - a distribution, and what of it is missing
    name: str,
    base: NumberBaseline | CategoryBaseline,
    missing: float,
    total: int,
    distance: float,
    count: int,
    delta: float,
    *,
    chance: float | None = None,
) -> tuple[float, float, str]:
    """Give distance and chance of what moved more: the values, or the share of missing ones (then in words)."""
    if chance is None:
        chance = _dkw(count, delta) + _dkw(base.count, delta)
    gone, gone_chance = abs(missing - base.missing), _dkw(total, delta) + _dkw(base.count, delta)
    if gone > gone_chance and gone - gone_chance > distance - chance:
        return gone, gone_chance, f"{name} missing, {base.missing:.1%} -> {missing:.1%} of items"
    return distance, min(chance, 1.0), ""


def _dkw(count: int, delta: float) -> float:
    """Bound how far an empirical distribution of independent values is off (Dvoretzky, Kiefer, Wolfowitz; Massart)."""
    return math.sqrt(math.log(2 / delta) / (2 * count)) if count else 1.0


def _chance_of_shares(places: int, count: int, delta: float) -> float:
    """Bound how far shares of independent categories are off in total variation (Weissman and others 2003)."""
    return 0.5 * math.sqrt(2 * (places * math.log(2) + math.log(1 / delta)) / count) if count else 1.0


def _number_text(name: str, base: NumberBaseline, after: Floats) -> str:
    if not after.size:
        return f"{name} has no values"
    middle, now = float(np.median(base.quantiles)), float(after[len(after) // 2])
    rank = float(base.rank(np.asarray([now]))[0])
    if 0.4 < rank < 0.6:
        low, high = np.quantile(base.quantiles, [0.25, 0.75])
        return f"{name}: middle half {low:.4g} to {high:.4g} -> {after[10]:.4g} to {after[30]:.4g}"
    share = f"below {1 - rank:.0%}" if rank < 0.5 else f"above {rank:.0%}"
    return f"{name} {middle:.4g} -> {now:.4g}, {share} of what it was"


def _edges(base: NumberBaseline) -> Floats:
    """Pick values of the baseline, and the float32 just below each, where the two distributions are compared."""
    last = len(base.quantiles) - 1
    places = np.unique(np.linspace(0, last, min(last + 1, _MOST_EDGES)).round().astype(int))
    picked = np.unique(tidy(base.quantiles[places])).astype(np.float32)
    below = np.nextafter(picked, np.float32(-np.inf))
    return np.asarray(np.unique(np.concatenate([picked, below[np.isfinite(below)]])), np.float64)


def _quantiles(reader: Reader, key: Key, within: Range, names: Sequence[str]) -> dict[str, tuple[int, int, Floats]]:
    """Give count, items and quantiles at RANKS (approximate between the ends) of numbers; infinite ones are left out.

    Counts are of all values that are there, infinite ones too.
    """
    columns = [quoted(signal_column("s", name)) for name in names]
    inner = ", ".join(str(rank) for rank in RANKS[1:-1])
    picked = ", ".join(
        f"count({column}), min({column}) FILTER (isfinite({column})), max({column}) FILTER (isfinite({column})), "
        f"approx_quantile({column}, [{inner}]) FILTER (isfinite({column}))"
        for column in columns
    )
    [row] = reader.select(f"SELECT count(*), {picked} FROM records WHERE {_OF_VERSION}", [*key, within.until_s]).rows  # noqa: S608 - of quoted names
    made = {}
    for place, name in enumerate(names):
        count, low, high, inside = row[1 + 4 * place : 5 + 4 * place]
        known = [] if low is None else [low, *(inside or ()), high]
        made[name] = (count, row[0], np.maximum.accumulate(np.asarray(known, np.float64)))
    return made


def _shares(
    reader: Reader, key: Key, within: Range, name: str, wanted: Sequence[str]
) -> tuple[dict[str, float], int, int]:
    """Give the shares of the most frequent categories (and those wanted), and how many values and items there are."""
    column = quoted(signal_column("c", name))
    args: list[Any] = [*key, within.until_s]
    [(count, total)] = reader.select(f"SELECT count({column}), count(*) FROM records WHERE {_OF_VERSION}", args).rows  # noqa: S608 - of quoted names
    counted = f"SELECT {column} AS name, count(*) AS n FROM records WHERE {_OF_VERSION} AND {column} IS NOT NULL GROUP BY name"  # noqa: S608, E501 - of quoted names
    most = reader.select(f"{counted} ORDER BY n DESC, name LIMIT {_MOST_CATEGORIES}", args).rows
    counts = dict(most)
    if len(most) == _MOST_CATEGORIES and wanted:
        rare = f"SELECT name, n FROM ({counted}) WHERE list_contains($4, name)"  # noqa: S608 - of quoted names
        counts |= dict(reader.select(rare, [*args, list(wanted)]).rows)
    shares = {category: n / count for category, n in counts.items()}
    if count and (rest := 1.0 - sum(shares.values())) > 1e-9:
        shares[OTHER] = shares.get(OTHER, 0.0) + rest
    return shares, count, total


def _parts(names: Sequence[str], most: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), most):
        yield names[start : start + most]


def _clipped(column: str) -> str:
    """Give a column as `tidy` does numbers; what is missing stays so."""
    ends = f"WHEN {column} > {_LARGEST!r} THEN {_LARGEST!r} WHEN {column} < -{_LARGEST!r} THEN -{_LARGEST!r}"
    return f"(CASE {ends} ELSE {column} END)::FLOAT"


def _listed(edges: Floats) -> str:
    return ", ".join(repr(float(edge)) for edge in edges)
