"""Page's test with a running mean."""

from dataclasses import dataclass, field
from typing import Any

from ferryman.monitor.detectors.detector import need


@dataclass
class PageHinkley:
    """Follow a number whose mean is not known (Page 1954; Hinkley 1971), by river."""

    delta: float = 0.005
    limit: float = 50.0
    _inner: Any = field(default=None, init=False, repr=False)  # river's own class

    def add(self, value: float) -> bool:
        """Take the next value."""
        if self._inner is None:
            self._inner = need("river.drift", "drift").PageHinkley(delta=self.delta, threshold=self.limit)
        if value != value:
            return False
        self._inner.update(value)
        return bool(self._inner.drift_detected)
