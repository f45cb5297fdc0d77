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
    """Hold one candidate's place: latency and change of the metric with its interval; its dot's area is its size."""

    name: str
    kind: str
    latency_ms: float
    change: float
    change_low: float
    change_high: float
    size_mb: float | None = None
    is_on_front: bool = False


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
    """Draw change of the metric over latency, the region that keeps the promise shaded.

    A candidate that loses far more than is allowed is drawn as an arrow at the lower edge, so that the differences
    which decide stay visible.
    """
    height, left, top, bottom = 300, 56, 12, 258
    across = Scale(0, 1.12 * max([point.latency_ms for point in points] + [max_ms or 0]), left, WIDTH - 14)
    lowest = max(min(point.change_low for point in points), -max(8 * max_drop, 0.02))
    highest = max(0.0, *(point.change_high for point in points))
    reach = highest - min(lowest, -max_drop) or 1
    up = Scale(min(lowest, -max_drop) - 0.14 * reach, highest + 0.14 * reach, bottom, top)
    edge = across(max_ms) if max_ms else WIDTH - 8
    spots = [(across(point.latency_ms), min(up(point.change), bottom - 9)) for point in points]
    parts = [
        f'<rect class="region" x="{left}" y="{top}" width="{edge - left:.1f}" height="{up(-max_drop) - top:.1f}"/>',
        *(_tick_up(up(tick), f"{round(tick, 9):+g}" if tick else "0", left) for tick in ticks(up.low, up.high)),
        *(_tick_across(across(tick), significant(tick), bottom, top) for tick in ticks(0, across.high)),
        f'<line class="source" x1="{left}" x2="{WIDTH - 8}" y1="{up(0):.1f}" y2="{up(0):.1f}"/>',
        _front([spot for point, spot in zip(points, spots, strict=True) if point.is_on_front]),
        *_draw_points(points, spots, up),
    ]
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in spots]
    for point, spot in zip(points, spots, strict=True):
        parts.append(_place_label(point, spot, taken, is_off=up(point.change) > bottom))
    middle = (left + WIDTH) / 2
    parts += [
        f'<text class="axis" x="{middle:.0f}" y="{height - 8}" text-anchor="middle">{text(labels[0])}</text>',
        f'<text class="axis" transform="translate(11 {(top + bottom) / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{text(labels[1])}</text>",
    ]
    return _figure(parts, height, f"{labels[1]} over {labels[0]}")


def _front(spots: Sequence[tuple[float, float]]) -> str:
    """Draw steps along those that nothing to their left is above; on the front for its size alone is no step."""
    steps: list[tuple[float, float]] = []
    for x, y in sorted(spots):
        if not steps or y < steps[-1][1]:
            steps.append((x, y))
    if len(steps) < 2:
        return ""
    (x, y), *others = steps
    return f'<path class="front" d="M{x:.1f} {y:.1f}' + "".join(f"H{a:.1f}V{b:.1f}" for a, b in others) + '"/>'


def _draw_points(points: Sequence[Point], spots: Sequence[tuple[float, float]], up: Scale) -> list[str]:
    """Draw the large dots first, so that they hide no small one."""
    drawn = [(_radius(point, points), point, spot) for point, spot in zip(points, spots, strict=True)]
    drawn.sort(key=lambda one: -one[0])
    return [_draw_point(point, spot, up, radius) for radius, point, spot in drawn]


def _radius(point: Point, points: Sequence[Point]) -> float:
    largest = max((one.size_mb for one in points if one.size_mb and is_number(one.size_mb)), default=0.0)
    if not point.size_mb or not is_number(point.size_mb) or not largest:
        return 5.0
    return max(9.0 * math.sqrt(point.size_mb / largest), 3.0)


def _draw_point(point: Point, spot: tuple[float, float], up: Scale, radius: float) -> str:
    x, y = spot
    title = f"{point.name}: {significant(point.latency_ms)} ms, change {significant(point.change)}"
    title += f", {significant(point.size_mb)} MB" if point.size_mb else ""
    if up(point.change) > up.start:
        sign = f'<path class="arrow" d="M{x - 6:.1f} {y - 5:.1f}h12l-6 11z"/>'
    else:
        reach = (max(up(point.change_high), up.end), min(up(point.change_low), up.start))
        sign = f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{reach[0]:.1f}" y2="{reach[1]:.1f}"/>'
        sign += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'
    return f'<g class="k-{text(point.kind)}"><title>{text(title)}</title>{sign}</g>'


def _place_label(
    point: Point, spot: tuple[float, float], taken: list[tuple[float, float, float, float]], *, is_off: bool
) -> str:
    """Put a name at the first place around its point where it covers no point and no other name."""
    x, y = spot
    told = f"{point.name} {significant(point.change)}" if is_off else point.name
    half = 3.2 * len(told)
    middles = [(x + 9 + half, y + 4), (x - 9 - half, y + 4)]
    middles += [
        (x + side * half, y + 4 + away * _LINE) for away in (-1.3, 1.3, -2.3, 2.3, 3.3, 4.3) for side in (0, 1, -1)
    ]
    frames = [(mx - half, base - 10, mx + half, base + 3) for mx, base in middles]
    free = [frame for frame in frames if _is_free(frame, taken)] or frames[:1]
    taken.append(free[0])
    left, _, right, bottom = free[0]
    return (
        f'<text class="name" x="{(left + right) / 2:.1f}" y="{bottom - 3:.1f}" text-anchor="middle">{text(told)}</text>'
    )


def _is_free(frame: tuple[float, float, float, float], taken: Sequence[tuple[float, float, float, float]]) -> bool:
    left, top, right, bottom = frame
    is_inside = left > 58 and right < WIDTH and top > 0 and bottom < 258
    return is_inside and not any(
        left < other[2] and other[0] < right and top < other[3] and other[1] < bottom for other in taken
    )


def bars(items: Sequence[Bar], *, limit: float | None, unit: str, marks: tuple[str, ...] = ()) -> str:
    """Draw a horizontal bar a candidate, dots at its lesser figures, and a line at the promise."""
    left, row = 14 + 6.9 * max(len(item.name) for item in items), 27
    top = 22 if marks or limit else 8
    bottom = top + row * len(items)
    across = Scale(
        0, 1.18 * max([value for item in items for value in item.values] + [limit or 0]) or 1, left, WIDTH - 10
    )
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
    parts.append(
        f'<text class="axis" x="{(left + WIDTH) / 2:.0f}" y="{bottom + 30:.0f}" text-anchor="middle">{names}</text>'
    )
    return _figure(parts, bottom + 36, f"{names} of each candidate")


def _bar(item: Bar, across: Scale, y: float) -> str:
    end = across(item.values[-1])
    shown = " / ".join(significant(value) for value in item.values)
    dots = "".join(f'<circle class="dot" cx="{across(value):.1f}" cy="{y:.1f}" r="3.5"/>' for value in item.values[:-1])
    value = f'<text class="value" x="{end + 5:.1f}" y="{y + 4:.1f}">{text(significant(item.values[-1]))}</text>'
    return (
        f'<g class="k-{text(item.kind)}"><title>{text(item.name)}: {text(shown)}</title>'
        f'<text class="name" x="{across.start - 7:.1f}" y="{y + 4:.1f}" text-anchor="end">{text(item.name)}</text>'
        f'<rect class="bar" x="{across.start:.1f}" y="{y - 8:.1f}" width="{max(end - across.start, 1):.1f}" '
        f'height="16" rx="3"/>{dots}{value}</g>'
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
    """Give powers of ten that a root scale keeps apart from zero and from each other."""
    return [tick for tick in (1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6) if highest / 90 <= tick <= highest]


def _tick_across(x: float, label: str, bottom: float, top: float) -> str:
    grid = f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>' if top != bottom else ""
    return f'{grid}<text class="tick" x="{x:.1f}" y="{bottom + 14:.1f}" text-anchor="middle">{label}</text>'


def _tick_up(y: float, label: str, left: float) -> str:
    return (
        f'<line class="grid" x1="{left}" x2="{WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{left - 5}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    )


def _figure(parts: Sequence[str], height: float, label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{text(label)}">' + "".join(parts) + "</svg>"
