"""How often a component's score passes a threshold without drift: what `threshold.py`'s rates stand on."""

import numpy as np

from ferryman.monitor.drift.components import Component
from ferryman.monitor.drift.scores import Scoring
from ferryman.monitor.drift.windows import Windows

_STREAMS, _BLOCKS = 2048, 512
_LIMITS = (3.5, 4.0, 4.25, 4.5)
_CASES = (
    ("level", 20, None),
    ("level", 100, None),
    ("level", 1000, None),
    ("level", 100_000, None),
    ("share", 100, 0.5),
    ("share", 100, 0.1),
    ("share", 1000, 0.1),
    ("outside", 100, 0.02),
    ("outside", 1000, 0.002),
    ("missing", 100, 0.0),
)


def measure_rates() -> None:
    """Print rate / (h exp(-h^2 / 2)) of first passages a block, and how many passed, for each kind of component.

    The probability behind a stream is drawn as it may be, given the baseline that is known of it.
    """
    print("| component | rows | share |" + "".join(f" {limit} |" for limit in _LIMITS))
    print("|---|---|---|" + "---|" * len(_LIMITS))
    for kind, count, share in _CASES:
        highest = _highest(Component("signal", kind, count, share))
        cells = []
        for limit in _LIMITS:
            passed = int((highest > limit).sum())
            rate = -np.log1p(-min(passed / _STREAMS, 1 - 1 / _STREAMS)) / _BLOCKS
            cells.append(f"{rate / (limit * np.exp(-limit * limit / 2)):.4f} ({passed})")
        print(f"| {kind} | {count} | {'' if share is None else share} | {' | '.join(cells)} |", flush=True)


def _highest(component: Component) -> np.ndarray:
    rng = np.random.default_rng(0)
    scoring, windows, ones = Scoring([component] * _STREAMS, 0.0), Windows(_STREAMS, 10), np.ones(_STREAMS)
    count, share = component.count, component.share
    if share is None:
        moved = rng.normal(0, 1 / np.sqrt(count), _STREAMS)
    else:
        moved = rng.beta(share * count + 0.5, count - share * count + 0.5, _STREAMS)
    highest = np.zeros(_STREAMS)
    for block in range(_BLOCKS):
        drawn = rng.random(_STREAMS)
        sums = np.sqrt(12) * (drawn - 0.5) + moved if share is None else (drawn < moved).astype(np.float64)
        for spans in windows.spans(windows.add(ones, sums, float(block))):
            highest = np.maximum(highest, np.abs(scoring.score(spans.counts, spans.sums, ones)).max(axis=0))
    return highest
