"""Cumulative sums: the classic for a change of the mean."""

from dataclasses import dataclass, field


@dataclass
class Cusum:
    """Follow a number whose mean and standard deviation are known, both sides (Page 1954).

    `slack` is half the change that matters and `limit` the height of the alarm, both in standard deviations: 0.5 and
    5 have about one false alarm in 465 independent normal values (Hawkins and Olwell 1998).
    """

    mean: float = 0.0
    std: float = 1.0
    slack: float = 0.5
    limit: float = 5.0
    up: float = field(default=0.0, init=False)
    down: float = field(default=0.0, init=False)

    def add(self, value: float) -> bool:
        """Take the next value."""
        if value != value:
            return False
        z = (value - self.mean) / self.std
        self.up = max(0.0, self.up + z - self.slack)
        self.down = max(0.0, self.down - z - self.slack)
        if max(self.up, self.down) <= self.limit:
            return False
        self.up = self.down = 0.0
        return True
