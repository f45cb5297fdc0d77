"""Whether a classifier can tell new rows from old ones."""

from dataclasses import dataclass

import numpy as np

from ferryman.monitor.detectors.detector import Comparison, Floats, clean, need


@dataclass(frozen=True, slots=True)
class DomainClassifier:
    """Compare two samples of vectors by how well a classifier tells them apart (Lopez-Paz and Oquab 2017).

    The classifier is scikit-learn's extremely randomised trees, cross-validated. The statistic is the area under the
    ROC curve; its p-value is Mann and Whitney's (1947), by the normal approximation: folds depend on each other,
    which it leaves out, so the level is 0.01 by default.
    """

    level: float = 0.01
    folds: int = 3
    seed: int = 0

    def compare(self, reference: Floats, window: Floats) -> Comparison:
        """Give the area under the curve, and its p-value."""
        model_selection = need("sklearn.model_selection", "sklearn")
        ensemble = need("sklearn.ensemble", "sklearn")
        left, right = (clean(side, self.folds) for side in (reference, window))
        rows = np.concatenate([side.reshape(len(side), -1) for side in (left, right)])
        sides = np.repeat([0, 1], [len(left), len(right)])
        trees = ensemble.ExtraTreesClassifier(30, min_samples_leaf=5, random_state=self.seed)
        folds = model_selection.StratifiedKFold(self.folds, shuffle=True, random_state=self.seed)
        scores = model_selection.cross_val_predict(trees, rows, sides, cv=folds, method="predict_proba")[:, 1]
        ranks = _ranks(scores)
        count, other = len(right), len(left)
        area = float((ranks[sides == 1].sum() - count * (count + 1) / 2) / (count * other))
        z = (area - 0.5) / np.sqrt((count + other + 1) / (12 * count * other))
        return Comparison(area, self.level, float(need("scipy.stats", "drift").norm.sf(z)))


def _ranks(values: Floats) -> Floats:
    """Give ranks from 1; equal values share the mean of theirs."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[index])
