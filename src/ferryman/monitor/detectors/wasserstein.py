"""How far the mass of one distribution must be carried to be the other."""

from dataclasses import dataclass

import numpy as np

from ferryman.monitor.detectors.detector import Comparison, Floats, clean, need


@dataclass(frozen=True, slots=True)
class Wasserstein:
    """Compare two samples of a number by the Wasserstein-1 distance over the reference's standard deviation, by scipy.

    The usual threshold is 0.1; it has no p-value. A constant reference gives the distance itself.
    """

    threshold: float = 0.1

    def compare(self, reference: Floats, window: Floats) -> Comparison:
        """Give the distance in standard deviations."""
        left, right = clean(reference), clean(window)
        distance = float(need("scipy.stats", "drift").wasserstein_distance(left, right))
        return Comparison(distance / (float(np.std(left)) or 1.0), self.threshold)
