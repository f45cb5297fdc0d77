"""The metric over the latest labelled items, and the least drop that its interval leaves possible."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ferryman.monitor.performance.intervals import newcombe, quantile
from ferryman.monitor.performance.metrics import LEAST, Figure, effect_of, measurable, measure
from ferryman.monitor.performance.outcome import Outcomes
from ferryman.monitor.performance.promise import SHARES, Promise

WINDOWS = (100, 300, 1000, 3000)
"""The latest so many labelled items are looked at: a sudden drop shows in few, a small one in many."""
MOST = WINDOWS[-1]
LOOK_S = 5.0
_LAXEST = 0.01
_SLEPIAN = 10.0  # independent looks within one length of a sliding window, for the tails that matter here


@dataclass(frozen=True, slots=True)
class Drop:
    """Hold how far a window's figure is below the bundle's own, and the least that its doubt leaves possible.

    As in the proof, a drop is absolute for metrics that should be high, and a share of the bundle's own error for
    those that should be low. The doubt is that of both figures, at a `confidence` which makes a false alarm as rare
    as was stated, though it is looked at all the time and in every window. `is_contract`: the contract's own metric.
    """

    value: float
    least: float
    confidence: float
    window: int
    promised: float
    samples: int
    limit: float
    is_contract: bool


@dataclass(frozen=True, slots=True)
class Rolling:
    """Hold one metric over each window that is full, the shortest first (or over all there is, from 30 items on)."""

    metric: str
    figures: tuple[Figure, ...]
    drop: Drop | None
    effect: float

    def to_json(self) -> dict[str, Any]:  # JSON
        """Give JSON values."""
        windows = [{key: rounded(value) for key, value in asdict(figure).items()} for figure in self.figures]
        drop = {key: rounded(value) for key, value in asdict(self.drop).items()} if self.drop is not None else None
        return {"metric": self.metric, "windows": windows, "drop": drop, "neighbours": rounded(self.effect)}


def roll(outcomes: Outcomes, promise: Promise | None) -> Rolling | None:
    """Measure the contract's metric, or what labels tell in its place; None of fewer than 30 items."""
    kept = outcomes.last(MOST)
    effect = effect_of(kept)
    metric, own, samples = _choose(kept, promise)
    positive = promise.positive if promise is not None else None
    figures = [
        figure
        for window in _windows(len(kept.rows))
        if (figure := measure(kept.last(window), metric, effect=effect, positive=positive)) is not None
    ]
    if not figures:
        return None
    if promise is None or math.isnan(own) or samples < 1:
        return Rolling(metric, tuple(figures), None, effect)
    is_contract = measurable(promise.metric)
    drops = [_drop(figure, kept, promise, own, is_contract=is_contract) for figure in figures]
    return Rolling(metric, tuple(figures), max(drops, key=lambda drop: drop.least), effect)


def tail(outcomes: Outcomes, window: int, interval_s: float) -> float:
    """Give the probability of error that each look at a window may have, for one false alarm in `interval_s`.

    Sliding windows pass a high level about ten times as often as windows side by side (Slepian 1961); those of
    different lengths count as independent. More often than it is looked, each `LOOK_S`, nothing can be told.
    """
    at_s = outcomes.at_s
    span_s = float(at_s[-1] - at_s[0]) if len(at_s) > 1 else 0.0
    labels = (len(at_s) - 1) / span_s * interval_s if span_s > 0 else window
    looks = min(_SLEPIAN * max(labels / window, 1.0), max(interval_s / LOOK_S, 1.0))
    return min(_LAXEST, 1 / (len(WINDOWS) * looks))


def rounded(value: Any) -> Any:  # a figure, or what stands beside figures
    """Round figures for people and JSON, which knows no NaN."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def _windows(count: int) -> Sequence[int]:
    full = [window for window in WINDOWS if window <= count]
    return full if count in full or count < LEAST or count > MOST else [*full, count]


def _choose(outcomes: Outcomes, promise: Promise | None) -> tuple[str, float, int]:
    """Give a metric, the bundle's own figure of it (NaN: none) and on how many samples that was measured."""
    samples = promise.samples if promise is not None else 0
    if promise is not None and measurable(promise.metric):
        return promise.metric, promise.value, samples
    if not np.isnan(outcomes.right).all():
        own = promise.right if promise is not None and promise.right is not None else math.nan
        return ("right" if math.isnan(own) else "accuracy"), own, samples
    return ("count_mae" if np.isnan(outcomes.value).all() else "mae"), math.nan, samples


def _drop(figure: Figure, outcomes: Outcomes, promise: Promise, own: float, *, is_contract: bool) -> Drop:
    error = tail(outcomes, figure.count, promise.interval_s)
    z = quantile(1 - error)
    if figure.metric in SHARES:
        value = own - figure.value
        least, _ = newcombe((own, promise.samples), (figure.value, figure.independent), z)
    else:
        # The proof keeps no samples: theirs are taken to vary as these do.
        scale = 1.0 if promise.higher_is_better else -1.0 / (own or 1.0)
        value = scale * (own - figure.value)
        doubt = abs(scale) * figure.deviation * math.sqrt(1 + figure.independent / promise.samples)
        least = value - z * doubt
    return Drop(value, least, 1 - error, figure.count, own, promise.samples, promise.max_drop, is_contract)
