"""A clock that neither jumps nor goes back, made of one that may."""

from dataclasses import dataclass
from typing import NamedTuple

LONGEST_STEP_S = 60.0


class Moment(NamedTuple):
    """Be now, by both clocks: seconds of a `Pace`, and Unix time for people."""

    elapsed_s: float
    now_s: float


@dataclass(slots=True)
class Pace:
    """Count the seconds that were watched. A step back counts nothing; one too long, a pause or a jump, a minute.

    So neither a clock that is set nor a machine that slept makes an alert old enough to fire, or forgets what was.
    """

    elapsed_s: float = 0.0
    last_s: float | None = None
    jumps: int = 0

    def advance(self, now_s: float) -> Moment:
        """Take the Unix time and give it with the seconds that were watched until now."""
        step_s = 0.0 if self.last_s is None else now_s - self.last_s
        if not 0 <= step_s <= LONGEST_STEP_S:
            self.jumps += 1
        self.elapsed_s += min(max(step_s, 0.0), LONGEST_STEP_S)
        self.last_s = now_s
        return Moment(self.elapsed_s, now_s)
