"""Plots as SVG text; colours come from the page's style sheet, every text is escaped."""

import html
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from ferryman.monitor.report.facts import Moment

WIDTH, HEIGHT = 560, 170
_LEFT, _TOP, _BOTTOM = 52, 10, 140
_BINS = 28
_MOST_BARS = 8
_MOST_DIGITS = 1e7


@dataclass(frozen=True, slots=True)
class Line:
    """Hold one line: (Unix time, value) in order; it breaks where a span is left out. `kind` is its class."""

    name: str
    kind: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """Hold the range of times that plots share, the width of a span, and the unit that values have."""

    since_s: float
    until_s: float
    slot_s: float
    unit: str = ""

    def x(self, at_s: float) -> float:
        """Give the pixel of a time; what lies outside is drawn at the edge."""
        share = (at_s - self.since_s) / (self.until_s - self.since_s)
        return _LEFT + min(max(share, 0.0), 1.0) * (WIDTH - 8 - _LEFT)


def text(value: object) -> str:
    """Escape foreign text for HTML and SVG, also inside quoted attributes; control characters become visible."""
    shown = " ".join(str(value).split())
    plain = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(sign)[0] == "C" else sign for sign in shown)
    return html.escape(plain, quote=True)


def figure(value: float | None) -> str:
    """Write a figure with three significant digits; a dash for what isn't known."""
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    if 1000 <= abs(value) < _MOST_DIGITS:
        return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{value:.3g}"


def ticks(high: float, count: int = 4) -> list[float]:
    """Give about `count` round figures (1, 2 or 5 times a power of ten) from 0 to `high`."""
    raw = max(high / count, 1e-12)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= raw * 0.999)
    return [index * step for index in range(math.floor(high / step + 1e-9) + 1)]


def lines(axis: Axis, drawn: Sequence[Line], *, limit: float | None = None, label: str = "") -> str:
    """Draw lines over time from 0 up, and a dashed one at a limit."""
    values = [value for line in drawn for _, value in line.points]
    high = max([*values, limit or 0.0], default=0.0) * 1.08 or 1.0
    low = min(0.0, min(values, default=0.0) * 1.08)
    up = _scale(low, high)
    parts = [*_grid(axis, low, high)]
    for line in drawn:
        path, last_s = "", -math.inf
        for at_s, value in line.points:
            word = "L" if at_s - last_s < 1.5 * axis.slot_s else "M"
            path += f"{word}{axis.x(at_s + axis.slot_s / 2):.1f} {up(value):.1f}"
            last_s = at_s
        if path:
            parts.append(f'<path class="line {line.kind}" d="{path}"><title>{text(line.name)}</title></path>')
        parts += [
            f'<circle class="{line.kind}" cx="{axis.x(at_s + axis.slot_s / 2):.1f}" cy="{up(value):.1f}" r="2"/>'
            for at_s, value in _lonely(line.points, axis.slot_s)
        ]
    if limit is not None:
        parts.append(
            f'<line class="limit" x1="{_LEFT}" x2="{WIDTH - 8}" y1="{up(limit):.1f}" y2="{up(limit):.1f}"/>'
            f'<text class="promise" x="{WIDTH - 10}" y="{up(limit) - 3:.1f}" text-anchor="end">'
            f"promised {figure(limit)} {text(axis.unit)}</text>"
        )
    return _svg(parts, label)


def columns(axis: Axis, stacked: Sequence[Line], *, label: str = "") -> str:
    """Draw a column for each span, parts on top of each other in the order given."""
    sums: dict[float, float] = {}
    for line in stacked:
        for at_s, value in line.points:
            sums[at_s] = sums.get(at_s, 0.0) + value
    high = max(sums.values(), default=0.0) * 1.08 or 1.0
    up, parts, base = _scale(0.0, high), [*_grid(axis, 0.0, high)], dict.fromkeys(sums, 0.0)
    for line in stacked:
        for at_s, value in line.points:
            if value <= 0:
                continue
            left, right = axis.x(at_s), axis.x(at_s + axis.slot_s)
            top, bottom = up(base[at_s] + value), up(base[at_s])
            base[at_s] += value
            parts.append(
                f'<rect class="{line.kind}" x="{left:.2f}" y="{top:.1f}" width="{max(right - left - 0.6, 0.8):.2f}" '
                f'height="{max(bottom - top, 0.8):.1f}"><title>{text(line.name)} {figure(value)}, {clock(at_s)}</title>'
                "</rect>"
            )
    return _svg(parts, label)


def band(axis: Axis, moments: Sequence[Moment], before: tuple[float, float, float], label: str) -> str:
    """Draw a signal's middle line within its 10th to 90th percentile over time, the same of before in grey behind."""
    values = [value for one in moments for value in (one.p10, one.p50, one.p90)] + list(before)
    least, most = min(values), max(values)
    margin = 0.08 * (most - least) or abs(most) * 0.1 or 1.0
    up = _scale(least - margin, most + margin)
    parts = [
        *_grid(axis, least - margin, most + margin),
        f'<rect class="past" x="{_LEFT}" y="{up(before[2]):.1f}" width="{WIDTH - 8 - _LEFT}" '
        f'height="{max(up(before[0]) - up(before[2]), 1):.1f}"/>',
        f'<line class="source" x1="{_LEFT}" x2="{WIDTH - 8}" y1="{up(before[1]):.1f}" y2="{up(before[1]):.1f}"/>',
    ]
    for one in moments:
        left, right = axis.x(one.at_s), axis.x(one.at_s + axis.slot_s)
        parts.append(
            f'<rect class="spread" x="{left:.1f}" y="{up(one.p90):.1f}" width="{max(right - left, 1):.1f}" '
            f'height="{max(up(one.p10) - up(one.p90), 1):.1f}">'
            f"<title>{figure(one.p50)}, {clock(one.at_s)}</title></rect>"
            f'<line class="line p50" x1="{left:.1f}" x2="{max(right, left + 1):.1f}" y1="{up(one.p50):.1f}" '
            f'y2="{up(one.p50):.1f}"/>'
        )
    return _svg(parts, label)


def distributions(before: Sequence[float], after: Sequence[float], ranks: Sequence[float], label: str) -> str:
    """Draw two distributions from their quantiles: before as a line, the range as bars, of equal areas."""
    ends = [*before[1:-1], *after[1:-1]]  # not the outliers, which would leave no room for the rest
    low, high = min(ends), max(ends)
    if not low < high:
        low, high = low - (abs(low) * 0.05 or 0.5), high + (abs(high) * 0.05 or 0.5)
    edges = np.linspace(low, high, _BINS + 1)
    masses = [np.diff(_shares_below(edges, quantiles, ranks)) for quantiles in (before, after)]
    top = max(float(mass.max()) for mass in masses) * 1.05 or 1.0
    up = _scale(0.0, top)
    across = [_LEFT + (WIDTH - 8 - _LEFT) * place / _BINS for place in range(_BINS + 1)]
    parts = [
        f'<rect class="now" x="{across[place] + 0.5:.1f}" y="{up(share):.1f}" '
        f'width="{across[1] - across[0] - 1:.1f}" height="{_BOTTOM - up(share):.1f}"/>'
        for place, share in enumerate(masses[1].tolist())
        if share > 0
    ]
    steps = "".join(
        f"L{across[place]:.1f} {up(share):.1f}H{across[place + 1]:.1f}"
        for place, share in enumerate(masses[0].tolist())
    )
    parts.append(f'<path class="before" d="M{across[0]:.1f} {_BOTTOM}{steps}V{_BOTTOM}"/>')
    for place in range(0, _BINS + 1, _BINS // 4):
        parts.append(
            f'<text class="tick" x="{across[place]:.1f}" y="{_BOTTOM + 14}" text-anchor="middle">'
            f"{figure(float(edges[place]))}</text>"
        )
    return _svg(parts, label)


def bars(before: Mapping[str, float], after: Mapping[str, float], label: str) -> str:
    """Draw shares of categories: the range as bars, before as a mark; those that changed most first."""
    named = dict.fromkeys([*before, *after])
    by_change = sorted(named, key=lambda one: (-abs(after.get(one, 0.0) - before.get(one, 0.0)), one))[:_MOST_BARS]
    shown = sorted(by_change, key=lambda one: -max(before.get(one, 0.0), after.get(one, 0.0)))
    high = max([share for one in shown for share in (before.get(one, 0.0), after.get(one, 0.0))], default=0) or 1
    left, row = 150, 19
    parts = []
    for place, name in enumerate(shown):
        was, now = before.get(name, 0.0), after.get(name, 0.0)
        room = (WIDTH - 60 - left) / high
        y, x = 6 + place * row, left + room * was
        short = name if len(name) <= 22 else f"{name[:21]}…"
        parts.append(
            f"<g><title>{text(name[:200])}: {was:.2%} before, {now:.2%} now</title>"
            f'<text class="name" x="{left - 7}" y="{y + 11}" text-anchor="end">{text(short)}</text>'
            f'<rect class="now" x="{left}" y="{y}" width="{max(room * now, 0.5):.1f}" height="14"/>'
            f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 2}" y2="{y + 16}"/>'
            f'<text class="value" x="{left + room * max(now, was) + 6:.1f}" y="{y + 11}">'
            f"{now:.1%}</text></g>"
        )
    return _svg(parts, label, height=len(shown) * row + 8)


def clock(at_s: float) -> str:
    """Write a Unix time in UTC, to the minute."""
    try:
        return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float

    def __call__(self, value: float) -> float:
        return _BOTTOM - (value - self.low) / (self.high - self.low) * (_BOTTOM - _TOP)


def _scale(low: float, high: float) -> _Scale:
    return _Scale(low, high if high > low else low + 1.0)


def _shares_below(
    edges: NDArray[np.float64], quantiles: Sequence[float], ranks: Sequence[float]
) -> NDArray[np.float64]:
    """Give the share below each edge; equal quantiles are a step."""
    values, first = np.unique(np.asarray(quantiles, np.float64), return_index=True)
    highest = np.append(first[1:], len(quantiles)) - 1
    shares = np.interp(edges, values, np.asarray(ranks)[highest], left=0.0, right=1.0)
    shares[0], shares[-1] = 0.0, 1.0
    return np.asarray(shares, np.float64)


def _lonely(points: Sequence[tuple[float, float]], slot_s: float) -> list[tuple[float, float]]:
    """Give points with no neighbour, which a line alone would not show."""
    times = [at_s for at_s, _ in points]
    gap_s = 1.5 * slot_s
    return [
        point
        for place, point in enumerate(points)
        if (place == 0 or times[place] - times[place - 1] >= gap_s)
        and (place == len(points) - 1 or times[place + 1] - times[place] >= gap_s)
    ]


def _grid(axis: Axis, low: float, high: float) -> list[str]:
    up = _scale(low, high)
    marks = ticks(high) if 0 <= low < high / 4 else np.linspace(low, high, 5).tolist()
    marks = [tick for tick in marks if tick >= low]
    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - 8}" y1="{up(tick):.1f}" y2="{up(tick):.1f}"/>'
        f'<text class="tick" x="{_LEFT - 5}" y="{up(tick) + 4:.1f}" text-anchor="end">{figure(tick)}</text>'
        for tick in marks
    ]
    for at_s in _times(axis):
        shown = clock(at_s)
        span_s = axis.until_s - axis.since_s
        told = shown[11:] if span_s <= 43200 else shown[5:] if span_s <= 2 * 86400 else shown[5:10]
        parts.append(
            f'<text class="tick" x="{axis.x(at_s):.1f}" y="{_BOTTOM + 14}" text-anchor="middle">{told}</text>'
            f'<line class="grid" x1="{axis.x(at_s):.1f}" x2="{axis.x(at_s):.1f}" y1="{_BOTTOM}" y2="{_BOTTOM + 3}"/>'
        )
    return [*parts, f'<text class="axis" x="{_LEFT}" y="10">{text(axis.unit)}</text>'] if axis.unit else parts


def _times(axis: Axis) -> list[float]:
    span = axis.until_s - axis.since_s
    steps = (60, 300, 600, 1800, 3600, 10800, 21600, 43200, 86400, 2 * 86400, 7 * 86400, 30 * 86400, 365 * 86400)
    step = next((step for step in steps if span / step <= 8), span / 8)
    first = math.ceil(axis.since_s / step)
    return [index * step for index in range(first, math.floor(axis.until_s / step) + 1)]


def _svg(parts: Sequence[str], label: str, *, height: int = HEIGHT) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{text(label)}">{"".join(parts)}</svg>'
