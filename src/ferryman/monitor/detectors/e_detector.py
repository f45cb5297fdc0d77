"""An e-detector: the sum of bets that begin at every row."""

import math
from dataclasses import dataclass, field

_BETS = (-0.9, -0.6, -0.3, 0.3, 0.6, 0.9)


@dataclass
class EDetector:
    """Follow ranks in [0, 1] that are uniform (or only: of mean 1/2) without a change.

    A Shiryaev-Roberts e-detector: a new bet begins at every value, and the sum of what all have become is M = (M + 1) e
    for each stake, averaged over stakes. By theorem 2.4 of Shin, Ramdas and Rinaldo ("E-detectors: a nonparametric
    framework for sequential change detection", 2023) the mean number of values to a false alarm is at least `length`.
    """

    length: float = 10_000.0
    _sums: list[float] = field(default_factory=lambda: [0.0] * len(_BETS), init=False, repr=False)

    @property
    def evidence(self) -> float:
        """Give the detector's value: an alarm where it reaches `length`."""
        return sum(self._sums) / len(_BETS)

    def add(self, value: float) -> bool:
        """Take the next rank; raises ValueError for one that is not in [0, 1]."""
        if math.isnan(value):
            return False
        if not 0 <= value <= 1:
            raise ValueError(f"a rank must be in [0, 1], not {value}")
        self._sums = [(total + 1) * (1 + bet * (2 * value - 1)) for total, bet in zip(self._sums, _BETS, strict=True)]
        if self.evidence < self.length:
            return False
        self._sums = [0.0] * len(_BETS)
        return True
