"""Tell whether the machine's clock may be believed before anything is deleted by age."""

from collections.abc import Callable

JUMP_S = 300.0
SETTLED_S = 3600.0
_MOST_STOPPED_S = 86400.0


class SteadyClock:
    """Set the clock beside the time that has passed since; one that has jumped is believed again after an hour."""

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float], newest_s: float | None) -> None:
        """Begin; `newest_s` is the Unix time of the last write before, which tells of jumps while nobody looked."""
        self._clock, self._monotonic = clock, monotonic
        self._now_s, self._passed_s = clock(), monotonic()
        self.jumps = 0
        is_plausible = newest_s is None or -JUMP_S <= self._now_s - newest_s <= _MOST_STOPPED_S
        self._steady_s = self._passed_s - (SETTLED_S if is_plausible else 0.0)

    def now_s(self) -> float:
        """Give the Unix time, whatever it is worth."""
        return self._clock()

    def passed_s(self) -> float:
        """Give seconds that only ever grow."""
        return self._monotonic()

    def is_believed(self) -> bool:
        """Look at both clocks; call it about once a second."""
        now_s, passed_s = self._clock(), self._monotonic()
        if abs((now_s - self._now_s) - (passed_s - self._passed_s)) > JUMP_S:
            self.jumps += 1
            self._steady_s = passed_s
        self._now_s, self._passed_s = now_s, passed_s
        return passed_s - self._steady_s >= SETTLED_S
