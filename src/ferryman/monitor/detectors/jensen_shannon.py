"""A bounded, symmetric distance of two distributions."""

from dataclasses import dataclass

import numpy as np

from ferryman.monitor.detectors._bins import binned, shares
from ferryman.monitor.detectors.detector import Comparison, Floats


@dataclass(frozen=True, slots=True)
class JensenShannon:
    """Compare two samples of a number by the Jensen-Shannon distance over bins (Lin 1991), base 2: 0..1."""

    bins: int = 10
    threshold: float = 0.1

    def compare(self, reference: Floats, window: Floats) -> Comparison:
        """Give the distance, the square root of the divergence."""
        before, after = (shares(counts) for counts in binned(reference, window, self.bins))
        middle = (before + after) / 2
        divergence = sum(float(np.sum(side * np.log2(side / middle))) for side in (before, after)) / 2
        return Comparison(max(divergence, 0.0) ** 0.5, self.threshold)
