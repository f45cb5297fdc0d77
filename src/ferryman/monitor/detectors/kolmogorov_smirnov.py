"""The largest distance between two distribution functions."""

from dataclasses import dataclass

from ferryman.monitor.detectors.detector import Comparison, Floats, clean, need


@dataclass(frozen=True, slots=True)
class KolmogorovSmirnov:
    """Compare two samples of a number by the two-sample test of Kolmogorov (1933) and Smirnov (1948), by scipy."""

    level: float = 0.05

    def compare(self, reference: Floats, window: Floats) -> Comparison:
        """Give the largest distance, 0..1, and its p-value."""
        # The exact level is not to be had of some samples with equal values: scipy warns, and does this instead.
        found = need("scipy.stats", "drift").ks_2samp(clean(reference), clean(window), method="asymp")
        return Comparison(float(found.statistic), self.level, float(found.pvalue))
