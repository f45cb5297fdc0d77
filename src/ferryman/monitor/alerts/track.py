"""One rule held against one version: pending, firing, over; and held down where it comes and goes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from ferryman.monitor.alerts.pace import Moment

Change = Literal["", "began", "ended"]
GONE_S = 300.0
"""What isn't measured for so long is over: the version was unloaded, or the sensor is gone."""
_FLAP_S, _LONGEST_HOLD_S, _LEAST_HOLD_S = 86400.0, 3600.0, 60.0


@dataclass(slots=True)
class Track:
    """Hold where an alert stands; `_s` times are seconds of a `Pace`, `began_at` and `ended_at` Unix times."""

    state: Literal["idle", "pending", "firing"] = "idle"
    since_s: float = 0.0
    seen_s: float = 0.0
    clear_since_s: float | None = None
    began_at: float = 0.0
    ended_at: float | None = None
    episode: int = 0
    ends_s: list[float] = field(default_factory=list)
    value: float | None = None
    detail: str = ""

    def step(self, holds: bool | None, for_s: float, clear_s: float, when: Moment) -> Change:
        """Take whether the condition holds now (None: unknown) and tell what that changed."""
        if holds is None:
            if when.elapsed_s - self.seen_s < GONE_S:
                return ""
            return self._end(when)
        self.seen_s = when.elapsed_s
        if not holds:
            return self._cleared(clear_s, when)
        self.clear_since_s = None
        if self.state == "idle":
            self.state, self.since_s, self.began_at, self.ended_at = "pending", when.elapsed_s, when.now_s, None
        if self.state == "pending" and when.elapsed_s - self.since_s >= for_s:
            self.state = "firing"
            self.episode += 1
            return "began"
        return ""

    def hold_s(self, clear_s: float, elapsed_s: float) -> float:
        """Give how long it must be gone before it is over: twice as long for each end within a day."""
        self.ends_s = [end for end in self.ends_s if elapsed_s - end < _FLAP_S]
        if not self.ends_s:
            return clear_s
        doubled = max(clear_s, _LEAST_HOLD_S) * 2.0 ** min(len(self.ends_s), 10)
        return max(clear_s, min(doubled, _LONGEST_HOLD_S))

    def _cleared(self, clear_s: float, when: Moment) -> Change:
        if self.state != "firing":
            self.state = "idle"
            return ""
        if self.clear_since_s is None:
            self.clear_since_s = when.elapsed_s
        if when.elapsed_s - self.clear_since_s < self.hold_s(clear_s, when.elapsed_s):
            return ""
        return self._end(when)

    def _end(self, when: Moment) -> Change:
        was_firing = self.state == "firing"
        self.state, self.clear_since_s = "idle", None
        if not was_firing:
            return ""
        self.ended_at = when.now_s
        self.ends_s = [*self.ends_s[-9:], when.elapsed_s]
        return "ended"

    def save(self) -> dict[str, Any]:  # JSON
        """Give it as JSON."""
        return asdict(self)

    @classmethod
    def restore(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `save` gave; raises TypeError for something else."""
        return cls(**stored)
