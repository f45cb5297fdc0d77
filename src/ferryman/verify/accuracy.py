"""The task metric of a candidate beside the source's, with an interval for the difference."""

import numpy as np

from ferryman.core.proof import Accuracy
from ferryman.core.task import Measurement

RESAMPLES = 200


def compare_metric(source: Measurement, candidate: Measurement, samples: int, *, seed: int) -> Accuracy:
    """Give the drop (positive is worse) and its 95 % interval by paired bootstrap over samples.

    Paired: each resample draws the same items for both models, so that the luck of the draw cancels
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13).
    """
    scale = 1.0 if source.higher_is_better else -1.0 / (source.value or 1.0)
    drop = scale * (source.value - candidate.value)
    low, high = drop, drop
    if samples > 1:
        draws = np.random.default_rng(seed).integers(0, samples, size=(RESAMPLES, samples))
        drops = scale * (source.resampled(draws) - candidate.resampled(draws))
        low, high = (float(value) for value in np.nanpercentile(drops, [2.5, 97.5]))
    return Accuracy(
        metric=source.metric,
        value=candidate.value,
        source_value=source.value,
        drop=drop,
        drop_low=low,
        drop_high=high,
        samples=samples,
        higher_is_better=source.higher_is_better,
        figures=candidate.figures,
    )
