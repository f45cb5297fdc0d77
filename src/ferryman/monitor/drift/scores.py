"""How far a window's rows are from the baseline, in standard deviations of what chance does."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ferryman.monitor.drift.components import Component

Floats = NDArray[np.float64]

_HALF = 0.5  # a count that is added to both sides of a share, as Krichevsky and Trofimov do
_TINY = 1e-12
_LITTLE = 2.4


class Scoring:
    """Score windows of C components, with what the baseline knows of each.

    A window's mean of m ranks differs from the baseline's by a variance of t / m + 1 / n, where n is the baseline's own
    size and t the factor by which neighbours that are alike raise the variance. Ranks are uniform without drift, and
    a uniform variable is strictly sub-Gaussian (Arbel, Marchal and Nguyen 2020): P(score > h) <= 2 exp(-h^2 / 2) for
    every window. A share is scored by the likelihood ratio of two samples (signed root), whose tail is the same to
    first order. `tolerance` stands for differences that any two days have: n counts for 1 / tolerance^2 at most.
    """

    def __init__(self, components: Sequence[Component], tolerance: float) -> None:
        counts = np.asarray([component.count for component in components], np.float64)
        self.base = 1 / (1 / np.maximum(counts, 1) + tolerance**2)
        self.is_share = np.asarray([component.share is not None for component in components], np.bool_)
        shares = np.asarray([component.share or 0.0 for component in components], np.float64)
        self.share = (shares * counts + _HALF) / (counts + 1)
        self.variance = np.where(self.is_share, self.share * (1 - self.share), 1.0)
        self.expected = np.where(self.is_share, self.share, 0.0)
        one_sided = [component.kind in ("outside", "new") for component in components]
        self._one_sided = np.asarray(one_sided, np.bool_)
        self._ranks = np.flatnonzero(~self.is_share)
        self._shares = np.flatnonzero(self.is_share)

    def score(self, counts: Floats, sums: Floats, factor: Floats) -> Floats:
        """Give the signed score of windows, [W, C], from counts and sums [W, C]; 0 where there are no rows."""
        scores = np.zeros(counts.shape)
        if self._ranks.size:
            scores[:, self._ranks] = self._score_ranks(counts, sums, factor)
        if self._shares.size:
            scores[:, self._shares] = self._score_shares(counts, sums, factor)
        return scores

    def _score_ranks(self, counts: Floats, sums: Floats, factor: Floats) -> Floats:
        at = self._ranks
        rows = counts[:, at]
        safe = np.maximum(rows, _TINY)
        return np.where(rows > 0, sums[:, at] / safe / np.sqrt(factor[at] / safe + 1 / self.base[at]), 0.0)

    def _score_shares(self, counts: Floats, sums: Floats, factor: Floats) -> Floats:
        at = self._shares
        rows = counts[:, at]
        size = rows / factor[at]
        base, share = self.base[at], self.share[at]
        live = np.clip(sums[:, at] / np.maximum(rows, _TINY), 0.0, 1.0)
        pooled = (size * live + base * share) / (size + base)
        signed = (live - share) / np.sqrt(pooled * (1 - pooled) * (1 / np.maximum(size, _TINY) + 1 / base))
        # The likelihood ratio is at most twice Pearson's: where even that is little, it needs no logarithms.
        far = np.flatnonzero((np.abs(signed) > _LITTLE).any(axis=0))
        if far.size:
            ratio = size[:, far] * _divergence(live[:, far], pooled[:, far])
            ratio += base[far] * _divergence(share[far], pooled[:, far])
            signed[:, far] = np.sqrt(2 * np.maximum(ratio, 0.0)) * np.sign(signed[:, far])
        one_sided = self._one_sided[at]
        signed[:, one_sided] = np.maximum(signed[:, one_sided], 0.0)
        return np.asarray(np.where(rows > 0, signed, 0.0))


def _divergence(left: Floats, right: Floats) -> Floats:
    """Give the Kullback-Leibler divergence of two shares, in nats."""
    right = np.clip(right, _TINY, 1 - _TINY)
    inner = np.clip(left, _TINY, 1 - _TINY)
    return np.asarray(left * np.log(inner / right) + (1 - left) * np.log((1 - inner) / (1 - right)))
