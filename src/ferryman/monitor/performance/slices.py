"""Where answers are worse: parts of the labelled items, told by their signals, each beside all others."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferryman.monitor.baseline import Baseline, NumberBaseline
from ferryman.monitor.performance.intervals import newcombe, quantile
from ferryman.monitor.performance.metrics import LEAST
from ferryman.monitor.performance.outcome import LABEL, Outcomes
from ferryman.monitor.performance.rolling import rounded

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_MOST_PARTS = 20  # of one signal
_ERROR = 0.05  # that any slice is called worse though none is


@dataclass(frozen=True, slots=True)
class Slice:
    """Hold the share of right answers (or the mean absolute error) in a part and in the rest.

    `low` and `high` bound how much worse the part is, all slices together at 95 % (Bonferroni).
    """

    signal: str
    part: str
    count: int
    value: float
    rest: float
    low: float
    high: float

    @property
    def is_worse(self) -> bool:
        """Tell whether the part is worse than the rest, beyond doubt."""
        return self.low > 0

    def to_json(self) -> dict[str, Any]:  # JSON
        """Give JSON values."""
        return {**{key: rounded(value) for key, value in asdict(self).items()}, "worse": self.is_worse}


def slice_up(outcomes: Outcomes, baseline: Baseline | None = None, *, effect: float = 1.0) -> list[Slice]:
    """Compare each part of at least 30 items with the rest, the worst first.

    Parts are the categories of a signal (the 20 most frequent; the answer's own label is one), and quarters of a
    number, by the baseline where it has it.
    """
    is_share = not np.isnan(outcomes.right).all()
    loss = 1 - outcomes.right if is_share else np.abs(_found(outcomes) - outcomes.truth)
    known = ~np.isnan(loss)
    parts = [
        (signal, part, mask)
        for signal, part, mask in _parts(outcomes, baseline)
        if (mask & known).sum() >= LEAST and (~mask & known).sum() >= LEAST
    ]
    z = quantile(1 - _ERROR / 2 / max(len(parts), 1))
    made = [_compare(signal, part, loss[mask & known], loss[~mask & known], z, effect, is_share=is_share)
            for signal, part, mask in parts]  # fmt: skip
    return sorted(made, key=lambda each: -each.low)


def _compare(  # noqa: PLR0913 - two samples, and how they are compared
    signal: str, part: str, inside: Floats, outside: Floats, z: float, effect: float, *, is_share: bool
) -> Slice:
    one, other = float(inside.mean()), float(outside.mean())
    if is_share:
        low, high = newcombe((one, inside.size / effect), (other, outside.size / effect), z)
        return Slice(signal, part, inside.size, 1 - one, 1 - other, low, high)
    doubt = z * math.sqrt(effect * (inside.var(ddof=1) / inside.size + outside.var(ddof=1) / outside.size))
    return Slice(signal, part, inside.size, one, other, one - other - doubt, one - other + doubt)


def _found(outcomes: Outcomes) -> Floats:
    return outcomes.value if np.isnan(outcomes.objects).all() else outcomes.objects


def _parts(outcomes: Outcomes, baseline: Baseline | None) -> Iterator[tuple[str, str, Mask]]:
    labels = [row.label for row in outcomes.rows]
    yield from _categories(LABEL, labels)
    for signal in sorted({name for row in outcomes.rows for name in row.signals}):
        values = [row.signals.get(signal) for row in outcomes.rows]
        if any(isinstance(value, str) for value in values):
            yield from _categories(signal, [value if isinstance(value, str) else None for value in values])
        else:
            known = baseline.signals.get(signal) if baseline is not None else None
            numbers = np.asarray([math.nan if value is None else value for value in values], np.float64)
            yield from _quarters(signal, numbers, known if isinstance(known, NumberBaseline) else None)


def _categories(signal: str, values: list[str | None]) -> Iterator[tuple[str, str, Mask]]:
    for value, _ in Counter(value for value in values if value is not None).most_common(_MOST_PARTS):
        yield signal, value, np.asarray([each == value for each in values])


def _quarters(signal: str, values: Floats, baseline: NumberBaseline | None) -> Iterator[tuple[str, str, Mask]]:
    finite = baseline.quantiles if baseline is not None else values[np.isfinite(values)]
    if not finite.size:
        return
    edges = sorted({float(edge) for edge in np.quantile(finite, [0.25, 0.5, 0.75])})
    bounds = [-math.inf, *edges, math.inf]
    for low, high in itertools.pairwise(bounds):
        words = f"under {high:.4g}" if low == -math.inf else f"{low:.4g} and over"
        part = words if math.inf in (high, -low) else f"{low:.4g} to {high:.4g}"
        yield signal, part, (values >= low) & (values < high)
