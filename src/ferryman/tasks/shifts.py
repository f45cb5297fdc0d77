"""Sum up changes of scores."""

from collections.abc import Sequence

import numpy as np


def mean_shifts(changes: Sequence[float]) -> dict[str, float]:
    """Give score_shift, the mean of |change|, and score_bias, |mean change|; nothing where no score was compared.

    A mean of nothing must not pass for a measured 0: a contract would take it for kept.
    """
    if not changes:
        return {}
    values = np.asarray(changes, np.float64)
    with np.errstate(invalid="ignore"):  # opposite infinities have no mean: NaN, which keeps no promise
        return {"score_shift": float(np.abs(values).mean()), "score_bias": float(abs(values.mean()))}
