"""Which calls of the engine are looked into, so that watching stays within its share of the CPU time."""

import random
from dataclasses import dataclass

_LEAST = 1e-4  # of the calls: what is cheaper some day must be found out
_CALM = 0.5  # how much of a step that is due is taken: figures of one second are noisy
_LONGEST_S = 10.0  # without a look, however busy the server is
_LEAST_CPU_S = 0.25
_SEEN = 0.75  # of what looking costs: the front's part of it is not timed
_GROWTH = 3.0


@dataclass(slots=True, eq=False, weakref_slot=True)
class Sampler:
    """Draw calls; `share` of them is set by what looking has cost.

    `budget` is the largest part of the server's CPU time that looking may take: the time in workers and in the watch.
    With 1 every call is looked into, whatever it costs.
    """

    budget: float
    share: float = 1.0
    drawn: int = 0
    left_out: int = 0
    _due_s: float = 0.0
    _looking_s: float = 0.0
    _all_s: float = 0.0

    def draw(self, now_s: float) -> bool:
        """Tell whether a call is looked into; `now_s` is of the loop's clock."""
        if self.budget <= 0.0:
            return False
        if max(self.share, self.budget) >= 1.0 or random.random() < self.share or now_s >= self._due_s:  # noqa: S311 - no secret
            self._due_s = now_s + _LONGEST_S
            self.drawn += 1
            return True
        self.left_out += 1
        return False

    def spent(self, looking_s: float, all_s: float) -> None:
        """Know that looking took `looking_s` of all CPU time, `all_s`; sets the share once enough has been done."""
        self._looking_s += looking_s
        self._all_s += all_s
        if self._all_s < _LEAST_CPU_S:
            return
        due = _SEEN * self.budget * self._all_s / self._looking_s if self._looking_s > 0.0 else _GROWTH
        self._looking_s = self._all_s = 0.0
        self.share = min(1.0, max(_LEAST, self.share * (1.0 + _CALM * (min(due, _GROWTH) - 1.0))))
