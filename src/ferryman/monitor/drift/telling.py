"""Say what moved in the signal's own unit."""

import numpy as np

from ferryman.monitor.drift.change import Moved
from ferryman.monitor.drift.components import CategoryReader, Component, NumberReader, Reader
from ferryman.monitor.drift.episode import Sight

OF_HOURS = ("level", "spread", "share", "mix")
"""Kinds of change to what the baseline has, too, but not as often: an hour of it may be so."""


def tell(component: Component, reader: Reader, sight: Sight, limit: float, *, season: str = "") -> Moved:
    """Describe one component that moved; `season` says how much of the season is known where that is too little."""
    if component.kind in ("level", "spread") and isinstance(reader, NumberReader):
        before, after, text = _number(component, reader, sight)
    elif component.kind == "mix":
        before, after, text = None, None, f"{component.signal}: other categories than in the baseline"
    else:
        before, after, text = _share(component, reader, sight)
    may_be_hour = bool(season) and component.kind in OF_HOURS
    if may_be_hour:
        text += f" (or it is the hour: {season})"
    return Moved(
        signal=component.signal,
        kind=component.kind,
        score=round(abs(sight.score), 3),
        threshold=round(limit, 3),
        since_s=sight.since_s,
        rows=round(sight.rows),
        before=before,
        after=after,
        category=component.category,
        text=text,
        may_be_hour=may_be_hour,
    )


def strongest(moved: list[Moved]) -> tuple[Moved, ...]:
    """Give one of each signal, the strongest signal first: its level where that moved, else what scores highest."""
    ranked = sorted(moved, key=lambda entry: (-entry.score, entry.signal))
    seen: dict[str, Moved] = {}
    for entry in ranked:
        seen.setdefault(entry.signal, entry)
        if entry.kind == "level":
            seen[entry.signal] = entry
    return tuple(seen.values())


def _number(component: Component, reader: NumberReader, sight: Sight) -> tuple[float | None, float | None, str]:
    baseline, name = reader.baseline, component.signal
    recent = reader.recent[-max(round(sight.rows), 1) :]
    if not recent.size:
        return None, None, f"{name} moved"
    if component.kind == "spread":
        low, high = np.quantile(baseline.quantiles, [0.25, 0.75])
        now_low, now_high = np.quantile(recent, [0.25, 0.75])
        before, after = float(high - low), float(now_high - now_low)
        how = "wider" if sight.score > 0 else "narrower"
        return (
            before,
            after,
            f"{name} spreads {how}: middle half {low:.4g} to {high:.4g} -> {now_low:.4g} to {now_high:.4g}",
        )
    before, after = float(np.median(baseline.quantiles)), float(np.median(recent))
    rank = float(baseline.rank(np.asarray([after]))[0])
    share = f"below {1 - rank:.0%}" if rank < 0.5 else f"above {rank:.0%}"
    return before, after, f"{name} {before:.4g} -> {after:.4g}, {share} of the baseline"


def _share(component: Component, reader: Reader, sight: Sight) -> tuple[float | None, float | None, str]:
    before = component.share or 0.0
    after = min(max(sight.total / max(sight.rows, 1e-9), 0.0), 1.0)
    name = component.signal
    what = {
        "outside": f"{name} outside the baseline's range",
        "missing": f"{name} missing",
        "new": f"{name}: categories that are not in the baseline",
        "share": f"{name}: {component.category!r:.60}",
    }[component.kind]
    if component.kind == "outside":
        before = 0.0
    more = ""
    if component.kind == "new" and isinstance(reader, CategoryReader) and reader.newest:
        more = f" (such as {reader.newest!r:.60})"
    return before, after, f"{what}{more}, {before:.1%} -> {after:.1%} of rows"
