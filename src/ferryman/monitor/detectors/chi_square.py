"""Whether categories come as often as they did."""

from dataclasses import dataclass

import numpy as np

from ferryman.monitor.detectors.detector import Comparison, Floats, clean, need


@dataclass(frozen=True, slots=True)
class ChiSquare:
    """Compare two samples of category numbers by Pearson's test of homogeneity (1900), by scipy.

    Categories that come less than five times in both together are counted as one.
    """

    level: float = 0.05
    least: int = 5

    def compare(self, reference: Floats, window: Floats) -> Comparison:
        """Give the statistic and its p-value; a single category is no drift."""
        left, right = clean(reference, 1), clean(window, 1)
        places, index = np.unique(np.concatenate([left, right]), return_inverse=True)
        counts = np.stack(
            [np.bincount(part, minlength=len(places)) for part in (index[: len(left)], index[len(left) :])]
        )
        rare = counts.sum(axis=0) < self.least
        table = np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)]) if rare.any() else counts
        table = table[:, table.sum(axis=0) > 0]
        if table.shape[1] < 2:
            return Comparison(0.0, self.level, 1.0)
        found = need("scipy.stats", "drift").chi2_contingency(table, correction=False)
        return Comparison(float(found.statistic), self.level, float(found.pvalue))
