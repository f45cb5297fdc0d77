"""How many rows come: how many make a block, and how many blocks the interval between false alarms has."""

from dataclasses import dataclass

_MEMORY_S = 7 * 86400.0
_LONGEST_GAP_S = 86400.0
_SOON_S = 60.0  # what is known of the rate before that is not believed
_MOST_ROWS = 4096


@dataclass
class Traffic:
    """Learn the rate of rows from the times at which they come; clocks may jump."""

    last_s: float | None = None
    elapsed_s: float = 0.0
    rows: float = 0.0
    blocks: float = 0.0

    def add(self, at_s: float, rows: int) -> None:
        """Count rows that came at Unix time `at_s`. A jump back counts as no time, one ahead as a day at most."""
        if self.last_s is not None:
            step = min(max(at_s - self.last_s, 0.0), _LONGEST_GAP_S)
            self.elapsed_s += step
            keep = max(1 - step / _MEMORY_S, 0.0) if self.elapsed_s > _MEMORY_S else 1.0
            self.elapsed_s, self.rows, self.blocks = self.elapsed_s * keep, self.rows * keep, self.blocks * keep
        self.last_s = at_s
        self.rows += rows

    @property
    def rows_a_second(self) -> float:
        """Give the rate of rows."""
        return self.rows / max(self.elapsed_s, _SOON_S)

    @property
    def block_rows(self) -> int:
        """Give how many rows make a block: about one block a second, where more than one row comes in a second."""
        size = 1
        while size < min(self.rows_a_second, _MOST_ROWS):
            size *= 2
        return size

    def blocks_in(self, interval_s: float) -> float:
        """Give how many blocks come in an interval, by what came so far."""
        return max(self.blocks, 1.0) / max(self.elapsed_s, _SOON_S) * interval_s
