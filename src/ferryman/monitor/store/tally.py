"""Counts of what was not kept, by reason, from several threads."""

import threading
from collections import Counter
from collections.abc import Mapping


class Tally:
    """Count by reason; counts only grow."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, reason: str, by: int = 1) -> None:
        """Add to one reason."""
        with self._lock:
            self._counts[reason] += by

    def add(self, counts: Mapping[str, int]) -> None:
        """Add to several reasons."""
        if counts:
            with self._lock:
                self._counts.update(counts)

    def seen(self) -> dict[str, int]:
        """Give every reason that was counted, in the order of names."""
        with self._lock:
            return {reason: count for reason, count in sorted(self._counts.items()) if count}
