"""Choose how much of a tensor's range 8 bits shall cover, from a histogram of its values."""

import numpy as np
from numpy.typing import NDArray

BINS = 2048
_LEVELS = 128  # what is left of a tensor's magnitudes in 8 bits with a sign
_STEPS = 255

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_SHARES: Floats = np.asarray(np.geomspace(1 / 32, 1.0, 48), np.float64)


def clip(counts: Counts, low: float, high: float, *, calibrator: str, percentile: float) -> tuple[float, float]:
    """Give the part of [low, high], which `counts` [BINS] cover, that "percentile", "entropy" or "mse" keeps."""
    if calibrator == "percentile":
        return _percentile(counts, low, high, percentile)
    return _least_error(counts, low, high) if calibrator == "mse" else _least_loss(counts, low, high)


def _least_error(counts: Counts, low: float, high: float) -> tuple[float, float]:
    """Clip where the mean squared error of rounding and clipping together is least: one end, the other, and again."""
    seen = np.flatnonzero(counts)
    values: Floats = np.asarray(low + (seen + 0.5) * ((high - low) / BINS), np.float64)
    weights = counts[seen].astype(np.float64)
    if not seen.size:
        return low, high
    best = (min(low, 0.0), max(high, 0.0))
    for end in (1, 0, 1):
        lows, highs = (best[side] * (_SHARES if side == end else np.ones_like(_SHARES)) for side in (0, 1))
        if (lows == highs).all():
            continue
        choice = int(np.argmin(_squared_errors(values, weights, lows, highs)))
        best = (float(lows[choice]), float(highs[choice]))
    return best


def _squared_errors(values: Floats, weights: Floats, lows: Floats, highs: Floats) -> Floats:
    """Give the squared error of values [N] in 8 bits over each of the ranges, [R]; a range holds 0."""
    scale = (highs - lows)[:, None] / _STEPS
    zero = np.round(-lows[:, None] / scale)
    levels = np.clip(np.round(values / scale) + zero, 0, _STEPS)
    errors: Floats = ((levels - zero) * scale - values) ** 2 @ weights
    return errors


def _percentile(counts: Counts, low: float, high: float, percentile: float) -> tuple[float, float]:
    """Cut half of what is over the percentile from each side."""
    share = np.cumsum(counts) / max(1, int(counts.sum()))
    outside = (1 - percentile / 100) / 2
    width = (high - low) / BINS
    first = int(np.searchsorted(share, outside, side="right"))
    last = int(np.searchsorted(share, 1 - outside, side="left"))
    return low + first * width, low + (min(last, BINS - 1) + 1) * width


def _least_loss(counts: Counts, low: float, high: float) -> tuple[float, float]:
    """Clip at the magnitude that loses least information (Kullback-Leibler), as TensorRT's entropy calibration does."""
    most = max(abs(low), abs(high))
    centers = np.abs(low + (np.arange(BINS) + 0.5) * ((high - low) / BINS))
    bins = np.minimum((centers * (BINS / most)).astype(np.int64), BINS - 1)
    magnitudes = np.bincount(bins, weights=counts, minlength=BINS).astype(np.float64)
    magnitudes[0] = min(magnitudes[0], magnitudes[1:].max())  # ReLU's zeros cost nothing, and would outweigh the rest
    ends = range(_LEVELS, BINS + 1, 16)
    limit = min(ends, key=lambda end: _divergence(magnitudes, end)) / BINS * most
    return max(low, -limit), min(high, limit)


def _divergence(magnitudes: Floats, end: int) -> float:
    inside = magnitudes[:end]
    wanted = inside.copy()
    wanted[-1] += magnitudes[end:].sum()
    level = np.arange(end) * _LEVELS // end
    filled = inside > 0
    totals = np.bincount(level, weights=inside, minlength=_LEVELS)
    members = np.bincount(level, weights=filled, minlength=_LEVELS)
    spread = np.where(filled, totals[level] / np.maximum(members[level], 1), 0.0)
    if not spread.sum():
        return float("inf")
    present = wanted > 0
    reference = wanted[present] / wanted.sum()
    kept = np.maximum(spread[present] / spread.sum(), 1e-9)
    return float(np.sum(reference * np.log(reference / kept)))
