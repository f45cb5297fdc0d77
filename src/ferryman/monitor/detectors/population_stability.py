"""The population stability index of credit scoring."""

from dataclasses import dataclass

import numpy as np

from ferryman.monitor.detectors._bins import binned, shares
from ferryman.monitor.detectors.detector import Comparison, Floats


@dataclass(frozen=True, slots=True)
class PopulationStability:
    """Compare two samples of a number by sum (q - p) ln(q / p) over bins (Siddiqi 2006): over 0.2 is a shift there.

    In small samples it is that large by chance: about (bins - 1)(1 / n + 1 / m) is expected of none (Yurdakul 2018).
    """

    bins: int = 10
    threshold: float = 0.2

    def compare(self, reference: Floats, window: Floats) -> Comparison:
        """Give the index."""
        before, after = (shares(counts) for counts in binned(reference, window, self.bins))
        return Comparison(float(np.sum((after - before) * np.log(after / before))), self.threshold)
