"""Draw the report's plots as SVG text; colours come from the page's style sheet, every text is escaped."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ferryman.verify.figures import is_number, plain, significant

WIDTH = 460
_LINE = 13.0


def text(value: object) -> str:
    """Escape foreign text for HTML and SVG, also inside quoted attributes."""
    return html.escape(plain(value), quote=True)


@dataclass(frozen=True, slots=True)
class Scale:
    """Map figures from [low, high] to pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Give the pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Point:
    """Hold one candidate's place: latency and change of the metric with its interval."""

    name: str
    kind: str
    latency_ms: float
    change: float
    change_low: float
    change_high: float


@dataclass(frozen=True, slots=True)
class Bar:
    """Hold one candidate's figures: a bar to the last, with a mark at each."""

    name: str
    kind: str
    values: tuple[float, ...]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Give about `count` round figures (1, 2 or 5 times a power of ten) between two figures."""
    raw = max((high - low) / count, 1e-12)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def scatter(points: Sequence[Point], *, max_ms: float | None, max_drop: float, labels: tuple[str, str]) -> str:
    """Draw change of the metric over latency, the region that keeps the promise shaded."""
    height, left, top, bottom = 300, 52, 12, 258
    across = Scale(0, 1.12 * max([point.latency_ms for point in points] + [max_ms or 0]), left, WIDTH - 8)
    lows, highs = [point.change_low for point in points], [point.change_high for point in points]
    reach = max(highs + [0]) - min([*lows, -max_drop]) or 1
    up = Scale(min([*lows, -max_drop]) - 0.1 * reach, max(highs + [0]) + 0.12 * reach, bottom, top)
    edge = across(max_ms) if max_ms else WIDTH - 8
    parts = [
        f'<rect class="region" x="{left}" y="{top}" width="{edge - left:.1f}" height="{up(-max_drop) - top:.1f}"/>',
        *(_tick_up(up(tick), significant(tick), left) for tick in ticks(up.low, up.high)),
        *(_tick_across(across(tick), significant(tick), bottom, top) for tick in ticks(0, across.high)),
        f'<line class="source" x1="{left}" x2="{WIDTH - 8}" y1="{up(0):.1f}" y2="{up(0):.1f}"/>',
    ]
    taken: list[tuple[float, float, float]] = []
    for point in points:
        parts.append(_draw_point(point, across(point.latency_ms), up))
    for point in sorted(points, key=lambda one: up(one.change)):
        parts.append(_place_label(point, across(point.latency_ms), up(point.change), taken))
    parts += [
        f'<text class="axis" x="{(left + WIDTH) / 2:.0f}" y="{height - 8}" text-anchor="middle">{text(labels[0])}</text>',
        f'<text class="axis" transform="translate(11 {(top + bottom) / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{text(labels[1])}</text>",
    ]
    return _figure(parts, height, f"{labels[1]} over {labels[0]}")


def _draw_point(point: Point, x: float, up: Scale) -> str:
    title = f"{point.name}: {significant(point.latency_ms)} ms, change {significant(point.change)}"
    return (
        f'<g class="k-{text(point.kind)}"><title>{text(title)}</title><line class="whisker" x1="{x:.1f}" x2="{x:.1f}" '
        f'y1="{up(point.change_low):.1f}" y2="{up(point.change_high):.1f}"/>'
        f'<circle cx="{x:.1f}" cy="{up(point.change):.1f}" r="5"/></g>'
    )


def _place_label(point: Point, x: float, y: float, taken: list[tuple[float, float, float]]) -> str:
    """Put a name beside its point, lower and lower until it covers no other name."""
    width = 6.2 * len(point.name)
    is_right = x + 9 + width < WIDTH
    left = x + 9 if is_right else x - 9 - width
    baseline = y + 4
    while any(abs(baseline - line) < _LINE and left < right and start < left + width for line, start, right in taken):
        baseline += _LINE
    taken.append((baseline, left, left + width))
    anchor, at = ("start", x + 9) if is_right else ("end", x - 9)
    return f'<text class="name" x="{at:.1f}" y="{baseline:.1f}" text-anchor="{anchor}">{text(point.name)}</text>'


def bars(items: Sequence[Bar], *, limit: float | None, unit: str, marks: tuple[str, ...] = ()) -> str:
    """Draw a horizontal bar a candidate, dots at its lesser figures, and a line at the promise."""
    left, row = 8 + 6.4 * max(len(item.name) for item in items), 27
    top = 22 if marks or limit else 8
    bottom = top + row * len(items)
    across = Scale(0, 1.18 * max([value for item in items for value in item.values] + [limit or 0]) or 1, left, WIDTH)
    parts = [_tick_across(across(tick), significant(tick), bottom, top) for tick in ticks(0, across.high)]
    for index, item in enumerate(items):
        parts.append(_bar(item, across, top + row * index + row / 2))
    if limit:
        x = across(limit)
        parts.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 6}" y2="{bottom}"/>')
        told = f"promised ≤ {significant(limit, unit=unit)}"
        anchor = "end" if x > WIDTH * 0.7 else "start"
        parts.append(f'<text class="promise" x="{x:.1f}" y="11" text-anchor="{anchor}">{text(told)}</text>')
    names = " · ".join(marks) + f", {unit}" if marks else unit
    parts.append(f'<text class="axis" x="{(left + WIDTH) / 2:.0f}" y="{bottom + 30:.0f}" text-anchor="middle">{names}</text>')
    return _figure(parts, bottom + 36, f"{names} of each candidate")


def _bar(item: Bar, across: Scale, y: float) -> str:
    end = across(item.values[-1])
    shown = " / ".join(significant(value) for value in item.values)
    dots = "".join(f'<circle class="dot" cx="{across(value):.1f}" cy="{y:.1f}" r="3.5"/>' for value in item.values[:-1])
    value = f'<text class="value" x="{end + 5:.1f}" y="{y + 4:.1f}">{text(significant(item.values[-1]))}</text>'
    return (
        f'<g class="k-{text(item.kind)}"><title>{text(item.name)}: {text(shown)}</title>'
        f'<text class="name" x="{across.start - 7:.1f}" y="{y + 4:.1f}" text-anchor="end">{text(item.name)}</text>'
        f'<rect class="bar" x="{across.start:.1f}" y="{y - 8:.1f}" width="{max(end - across.start, 1):.1f}" height="16" '
        f'rx="3"/>{dots}{value}</g>'
    )


def histogram(source: Sequence[float], candidate: Sequence[float]) -> str:
    """Draw counts of confidences in equal bins of [0, 1]: the source's as steps, the candidate's as bars."""
    height, left, top, bottom = 170, 34, 8, 130
    counts = [count if is_number(count) else 0.0 for count in (*source, *candidate)]
    # square roots, so that the many low scores don't flatten the few high ones that count
    up = Scale(0, math.sqrt(max([*counts, 1.0])), bottom, top)
    across = Scale(0, max(len(source), len(candidate), 1), left, WIDTH - 6)
    step = across(1) - across(0)
    parts = [_tick_up(up(math.sqrt(tick)), significant(tick), left) for tick in _root_ticks(max(counts, default=1.0))]
    parts += [
        f'<rect class="now" x="{across(index) + 1:.1f}" y="{up(math.sqrt(count)):.1f}" width="{step - 2:.1f}" '
        f'height="{bottom - up(math.sqrt(count)):.1f}"/>'
        for index, count in enumerate(counts[len(source) :])
    ]
    steps = "".join(
        f"L{across(index):.1f} {up(math.sqrt(count)):.1f}H{across(index + 1):.1f}"
        for index, count in enumerate(counts[: len(source)])
    )
    parts.append(f'<path class="before" d="M{left} {bottom}{steps}V{bottom}"/>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(_tick_across(across(share * across.high), f"{share:g}", bottom, bottom))
    parts.append(f'<text class="axis" x="{WIDTH / 2}" y="{height - 8}" text-anchor="middle">confidence</text>')
    return _figure(parts, height, "confidences: source as a line, candidate as bars")


def _root_ticks(highest: float) -> list[float]:
    return [tick for tick in (1, 10, 100, 1000, 10_000, 100_000, 1_000_000) if tick <= highest][-3:]


def _tick_across(x: float, label: str, bottom: float, top: float) -> str:
    grid = f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>' if top != bottom else ""
    return f'{grid}<text class="tick" x="{x:.1f}" y="{bottom + 14:.1f}" text-anchor="middle">{label}</text>'


def _tick_up(y: float, label: str, left: float) -> str:
    return (
        f'<line class="grid" x1="{left}" x2="{WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{left - 5}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    )


def _figure(parts: Sequence[str], height: float, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{text(label)}">' + "".join(parts) + "</svg>"
    )
