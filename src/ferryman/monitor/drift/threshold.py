"""The score over which drift is believed, from the interval that false alarms may have."""

import math
from collections.abc import Sequence

import numpy as np

from ferryman.monitor.drift.components import Component

RANK_RATE = 0.025
SHARE_RATE = 0.2
RARE_RATE = 0.1
"""How often the score of one component without drift passes h for the first time, per block, is about
rate * h * exp(-h^2 / 2): simulated for baselines of 20 to 100,000 rows (`python -m benchmarks.drift thresholds`), the
chance of which baseline one has included. From h = 4 on, ranks have 0.02 to 0.03; shares 0.04 to 0.26, in steps, as
counts are whole. Rare: shares near 0 or 1."""
_RARE = 0.03


def weight_of(components: Sequence[Component]) -> float:
    """Give the sum of the rates of these components: alarms of one watch are at most as frequent as of all together."""
    total = 0.0
    for component in components:
        if component.share is None:
            total += RANK_RATE
        else:
            total += RARE_RATE if component.share * (1 - component.share) < _RARE else SHARE_RATE
    return total


def threshold(weight: float, blocks: float) -> float:
    """Give the h at which components of this weight together have one false alarm in so many blocks."""
    aim = -math.log(max(weight * max(blocks, 1.0), 1.0))
    score = 3.0
    for _ in range(50):  # a fixed point of h = sqrt(2 (log h - aim)): contracts for h > 1
        score = math.sqrt(max(2 * (math.log(score) - aim), 1.0))
    return score


def expected_alarms(weight: float, blocks: float, score: float) -> float:
    """Give how many false alarms so many blocks have at this threshold, at most."""
    return float(weight * blocks * score * np.exp(-score * score / 2))
