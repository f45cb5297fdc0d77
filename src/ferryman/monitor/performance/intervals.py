"""Intervals of figures that are measured on few items, and on items that resemble their neighbours."""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_CHUNK, _LAGS = 300, 50


def quantile(confidence: float) -> float:
    """Give the standard normal's quantile of a one-sided confidence in (0, 1)."""
    return NormalDist().inv_cdf(confidence)


def wilson(share: float, count: float, z: float) -> tuple[float, float]:
    """Give the interval of a share of `count` independent items (Wilson 1927); (0, 1) of none."""
    if count <= 0:
        return 0.0, 1.0
    scale = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / scale
    half = z / scale * math.sqrt(max(share * (1 - share) / count + z * z / (4 * count * count), 0.0))
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def newcombe(first: tuple[float, float], second: tuple[float, float], z: float) -> tuple[float, float]:
    """Give the interval of first - second, each (share, count) and independent of the other (Newcombe 1998, no. 10)."""
    (one, _), (other, _) = first, second
    one_low, one_high = wilson(*first, z)
    other_low, other_high = wilson(*second, z)
    low = one - other - math.hypot(one - one_low, other_high - other)
    high = one - other + math.hypot(one_high - one, other - other_low)
    return low, high


def design_effect(values: Floats) -> float:
    """Give how many neighbours of a series [N] are worth one independent value, 1 or more.

    1 + 2 * the sum of correlations, as long as pairs of them are positive (Geyer 1992), over stretches of 300 about
    their own means: a level that changes from one to the next is what is looked for, and no correlation.
    """
    known = values[~np.isnan(values)]
    length = min(_CHUNK, known.size)
    if length < 20:
        return 1.0
    chunks = known[: known.size // length * length].reshape(-1, length)
    centred = chunks - chunks.mean(axis=1, keepdims=True)
    variance = float((centred**2).mean())
    if variance <= 0:
        return 1.0
    lags = min(_LAGS, length // 4)
    found = [float((centred[:, lag:] * centred[:, : length - lag]).mean()) / variance for lag in range(1, lags + 1)]
    total = 0.0
    for first, second in zip(found[0::2], found[1::2], strict=False):
        if first + second <= 0:
            break
        total += first + second
    return max(1.0, 1 + 2 * total)


def block_draws(count: int, block: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """Draw indices [resamples, count] in runs of `block` neighbours, in a circle (Politis and Romano 1992)."""
    runs = math.ceil(count / block)
    starts = np.random.default_rng(seed).integers(0, count, size=(resamples, runs))
    drawn = (starts[:, :, None] + np.arange(block)) % count
    return np.asarray(drawn.reshape(resamples, -1)[:, :count], np.int64)
