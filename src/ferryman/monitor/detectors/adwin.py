"""A window that shrinks where its halves differ."""

from dataclasses import dataclass, field
from typing import Any

from ferryman.monitor.detectors.detector import need


@dataclass
class Adwin:
    """Follow a number in [0, 1] by adaptive windowing (Bifet and Gavalda 2007), by river."""

    delta: float = 0.002
    _inner: Any = field(default=None, init=False, repr=False)  # river's own class

    def add(self, value: float) -> bool:
        """Take the next value."""
        if self._inner is None:
            self._inner = need("river.drift", "drift").ADWIN(delta=self.delta)
        if value != value:
            return False
        self._inner.update(value)
        return bool(self._inner.drift_detected)
