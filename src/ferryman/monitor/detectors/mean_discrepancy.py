"""A kernel's distance of two samples of vectors."""

from dataclasses import dataclass

import numpy as np

from ferryman.monitor.detectors.detector import Comparison, Floats, clean

_MOST = 1000


@dataclass(frozen=True, slots=True)
class MeanDiscrepancy:
    """Compare two samples of vectors by the maximum mean discrepancy with a permutation test (Gretton et al. 2012).

    The kernel is Gaussian, its width the median distance; of more than 1,000 rows a side as many are drawn.
    """

    level: float = 0.05
    rounds: int = 200
    seed: int = 0

    def compare(self, reference: Floats, window: Floats) -> Comparison:
        """Give the squared discrepancy and its p-value."""
        rng = np.random.default_rng(self.seed)
        left, right = (_drawn(clean(side), rng) for side in (reference, window))
        pooled = np.concatenate([left, right])
        squares = (pooled**2).sum(axis=1)
        distances = np.maximum(squares[:, None] + squares[None] - 2 * pooled @ pooled.T, 0.0)
        apart = distances[np.triu_indices(len(pooled), 1)]
        kernel = np.exp(-distances / (float(np.median(apart)) or 1.0))
        sides = np.where(np.arange(len(pooled)) < len(left), 1 / len(left), -1 / len(right))
        found = float(sides @ kernel @ sides)
        shuffled = np.stack([rng.permutation(sides) for _ in range(self.rounds)])
        larger = int((np.einsum("ij,ij->i", shuffled @ kernel, shuffled) >= found).sum())
        return Comparison(found, self.level, (1 + larger) / (1 + self.rounds))


def _drawn(values: Floats, rng: np.random.Generator) -> Floats:
    rows = values.reshape(len(values), -1)
    return rows if len(rows) <= _MOST else np.asarray(rows[rng.choice(len(rows), _MOST, replace=False)])
