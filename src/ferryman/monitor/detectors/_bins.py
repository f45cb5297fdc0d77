"""Shares of two samples in the same bins."""

import numpy as np

from ferryman.monitor.detectors.detector import Floats, clean


def binned(reference: Floats, window: Floats, bins: int) -> tuple[Floats, Floats]:
    """Count two samples [N] and [M] in bins that are equally likely in the reference: counts, [bins] each.

    Equal quantiles make fewer bins.
    """
    left, right = clean(reference), clean(window)
    edges = np.unique(np.quantile(left, np.linspace(0, 1, bins + 1)[1:-1]))
    size = len(edges) + 1
    counts = [np.bincount(np.searchsorted(edges, side, "left"), minlength=size) for side in (left, right)]
    return np.asarray(counts[0], np.float64), np.asarray(counts[1], np.float64)


def shares(counts: Floats) -> Floats:
    """Give shares, each count raised by a half so that none is 0 (Krichevsky and Trofimov 1981)."""
    return np.asarray((counts + 0.5) / (counts + 0.5).sum())
