"""Bet against exchangeability: who gets rich has seen a change."""

import math
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from random import Random

_BETS = (-0.9, -0.45, 0.45, 0.9)
_MOST = 10_000


@dataclass
class ConformalMartingale:
    """Follow a number by a conformal test martingale (Vovk, Gammerman and Shafer 2005; Volkhonskiy et al. 2017).

    Each value's random rank among all before it is uniform and independent of the others as long as they are
    exchangeable, whatever the distribution and however few there were at first. Capital is staked on ranks being low
    or high: by Ville's inequality it ever reaches 1 / alpha with a probability of alpha at most. `reference` is what
    came before; of more than 10,000 values the ranks are those among the first.
    """

    reference: list[float] = field(default_factory=list)
    alpha: float = 0.001
    seed: int = 0
    _logs: list[float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)  # noqa: S311 - ranks at ties, no secret
        self._seen = sorted(value for value in self.reference if math.isfinite(value))
        self._logs = [0.0] * len(_BETS)

    @property
    def capital(self) -> float:
        """Give what 1 has become, the mean over all bets."""
        return sum(math.exp(min(log, 700.0)) for log in self._logs) / len(_BETS)

    def add(self, value: float) -> bool:
        """Take the next value; a change is told where the capital reaches 1 / alpha."""
        if not math.isfinite(value):
            return False
        below, upto = bisect_left(self._seen, value), bisect_right(self._seen, value)
        rank = (below + self._random.random() * (upto - below + 1)) / (len(self._seen) + 1)
        if len(self._seen) < _MOST:
            insort(self._seen, value)
        for at, bet in enumerate(_BETS):
            self._logs[at] += math.log1p(bet * (2 * rank - 1))
        if self.capital < 1 / self.alpha:
            return False
        self._logs = [0.0] * len(_BETS)
        return True
