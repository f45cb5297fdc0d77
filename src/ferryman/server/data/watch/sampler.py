"""Which calls of the engine are looked into, so that watching stays within its share of the CPU time."""

import random
from dataclasses import dataclass

_LEAST = 1e-4  # of the calls: what is cheaper some day must be found out
_CALM = 0.5  # how much of a step that is due is taken: figures of one second are noisy
_LONGEST_S = 1.0  # without a look, whatever one costs: a quiet server must not be blind
_LEAST_CPU_S = 0.25
_SEEN = 0.75  # of what watching costs: what it takes of caches and of the loop can't be timed
_GROWTH = 3.0
_LEAST_LOOKS = 0.25  # of the budget, however much of it the watch itself takes
_ALWAYS = 0.001  # of one core: where little is asked, all of it can be looked into


@dataclass(slots=True, eq=False, weakref_slot=True)
class Sampler:
    """Draw calls; `share` of them is set by what looking has cost.

    `budget` is the largest part of the server's CPU time that watching may take: in workers, front and watch.
    What the watch takes by itself goes off first. With 1 every call is looked into, whatever it costs.
    """

    budget: float
    share: float = 1.0
    drawn: int = 0
    left_out: int = 0
    _due_s: float = 0.0
    _looking_s: float = 0.0
    _all_s: float = 0.0
    _fixed_s: float = 0.0
    _passed_s: float = 0.0

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

    def spent(self, looking_s: float, all_s: float, *, fixed_s: float = 0.0, passed_s: float = 0.0) -> None:
        """Know what was spent in `passed_s`: on looks, on watching beside them, on all; sets the share in time."""
        self._looking_s += looking_s
        self._all_s += all_s
        self._fixed_s += fixed_s
        self._passed_s += passed_s
        if self._all_s < _LEAST_CPU_S:
            return
        whole_s = self.budget * self._all_s
        allowed_s = max(_SEEN * whole_s - self._fixed_s, _LEAST_LOOKS * whole_s, _ALWAYS * self._passed_s)
        due = allowed_s / self._looking_s if self._looking_s > 0.0 else _GROWTH
        self._looking_s = self._all_s = self._fixed_s = self._passed_s = 0.0
        self.share = min(1.0, max(_LEAST, self.share * (1.0 + _CALM * (min(due, _GROWTH) - 1.0))))
