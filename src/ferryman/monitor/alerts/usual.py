"""How long it usually is between two requests of a model: learnt, nights and weekends included."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

DAYS = 8  # a whole week, so that a weekend has been seen, and a day more
FACTOR = 2.0
_DAY_S = 86400.0
_LEAST_S = 900.0


@dataclass(slots=True)
class Usual:
    """Keep the longest pause between requests that ended on each of the last days; times are seconds of a `Pace`."""

    begun_s: float
    last_s: float | None = None
    longest: dict[int, float] = field(default_factory=dict)

    def saw(self, requests: int, elapsed_s: float) -> None:
        """Take how many requests came just now."""
        if not requests:
            return
        if self.last_s is not None:
            day = int(elapsed_s // _DAY_S)
            self.longest[day] = max(self.longest.get(day, 0.0), elapsed_s - self.last_s)
            self.longest = {one: pause for one, pause in self.longest.items() if one > day - DAYS}
        self.last_s = elapsed_s

    def pause_s(self, elapsed_s: float) -> float:
        """Give how long it is since the last request; 0 before the first."""
        return 0.0 if self.last_s is None else elapsed_s - self.last_s

    def limit_s(self, elapsed_s: float) -> float | None:
        """Give the longest pause that is still usual; None while that is being learnt."""
        if elapsed_s - self.begun_s < DAYS * _DAY_S or not self.longest:
            return None
        return max(FACTOR * max(self.longest.values()), _LEAST_S)

    def save(self) -> dict[str, Any]:  # JSON
        """Give it as JSON."""
        return {"begun": self.begun_s, "last": self.last_s, "longest": sorted(self.longest.items())}

    @classmethod
    def restore(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `save` gave; raises TypeError, KeyError or ValueError for something else."""
        last = stored["last"]
        longest = {int(day): float(pause) for day, pause in stored["longest"]}
        return cls(float(stored["begun"]), None if last is None else float(last), longest)
