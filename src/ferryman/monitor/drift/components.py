"""What is looked at of each signal: components, each a number per row whose distribution without drift is known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferryman.core.record import Value
from ferryman.monitor.baseline import OTHER, Baseline, CategoryBaseline, NumberBaseline, numbers_of, tidy

Floats = NDArray[np.float64]

MOST_SHARES = 12
"""How many categories of a signal have a component of their own; changes among the others show in the mix."""
RECENT = 512
"""How many of a number's last values are kept, to say what it is now."""
_WIDE = math.sqrt(12.0)  # a uniform rank has a variance of 1/12
_BEYOND = 3  # beyond the ends, a new value is with probability 2 / (n + 1) on average: often more, in small baselines


@dataclass(frozen=True, slots=True)
class Component:
    """Name one component: of which signal, what it tells, from how many rows of the baseline.

    `share` is None for a rank (mean 0, variance 1 without drift), else how often the component is 1 in the baseline.
    """

    signal: str
    kind: str
    count: int
    share: float | None = None
    category: str = ""


class NumberReader:
    """Read a number's components: level and spread of its rank, values outside the baseline's range, missing ones."""

    def __init__(self, name: str, baseline: NumberBaseline) -> None:
        self.baseline = baseline
        self.recent: Floats = np.zeros(0)
        present = max(round(baseline.count * (1 - baseline.missing)), 1)
        outside = min(_BEYOND / (present + 1), 0.5)
        self.components = (
            Component(name, "level", present),
            Component(name, "spread", present),
            Component(name, "outside", present, outside),
            Component(name, "missing", baseline.count, baseline.missing),
        )

    def read(self, values: Sequence[Value], rng: np.random.Generator) -> Floats:
        """Give the components of values [N], float64 [N, 4]: NaN where a value is missing."""
        numbers = numbers_of(values)
        missing = np.isnan(numbers)
        ranks = self.baseline.rank(numbers, rng)
        # Distance from the middle rank is uniform, too: spread is a level of its own.
        spread = np.abs(2 * ranks - 1)
        tidied = tidy(numbers)
        outside = np.where(missing, np.nan, (tidied < self.baseline.low) | (tidied > self.baseline.high))
        self.recent = np.concatenate([self.recent, numbers[np.isfinite(numbers)]])[-RECENT:]
        return np.stack([_WIDE * (ranks - 0.5), _WIDE * (spread - 0.5), outside, missing.astype(np.float64)], axis=1)


class CategoryReader:
    """Read a category's components: shares of the frequent ones, of the rest and of new ones, the mix, missing ones."""

    def __init__(self, name: str, baseline: CategoryBaseline) -> None:
        self._baseline = baseline
        self.newest = ""
        ranked = sorted(baseline.shares, key=lambda place: (-baseline.shares[place], place))
        self._own = min(len(ranked), MOST_SHARES)
        widths = np.asarray([baseline.shares[place] for place in ranked] + [baseline.unseen / 2], np.float64)
        widths /= widths.sum()
        self._places = {place: index for index, place in enumerate(ranked)}
        self._rest = self._places.get(OTHER, len(ranked))
        self._starts = np.cumsum(widths) - widths
        self._widths = widths
        present = max(round(baseline.count * (1 - baseline.missing)), 1)
        own = [Component(name, "share", present, baseline.shares[place], place) for place in ranked[: self._own]]
        new = baseline.unseen if baseline.is_whole else 0.0
        mix = [Component(name, "mix", present)] if len(ranked) > MOST_SHARES else []
        rest = [Component(name, "new", present, new), Component(name, "missing", baseline.count, baseline.missing)]
        self.components = (*own, *mix, *rest)

    def read(self, values: Sequence[Value], rng: np.random.Generator) -> Floats:
        """Give the components of values [N], float64 [N, components]: NaN where a value is missing."""
        read = np.zeros((len(values), len(self.components)), np.float64)
        index = np.fromiter((self._index(value) for value in values), np.int64, len(values))
        read[index < 0, :-1] = np.nan
        read[:, -1] = index < 0
        own = (index >= 0) & (index < self._own)
        read[own, index[own]] = 1.0
        new = np.flatnonzero(index == len(self._places))
        read[new, -2] = 1.0
        if new.size:
            self.newest = str(values[new[-1]])[:200]
        if len(self._places) > MOST_SHARES:
            known = index >= 0
            ranks = self._starts[index[known]] + rng.random(int(known.sum())) * self._widths[index[known]]
            read[known, -3] = _WIDE * (ranks - 0.5)
        return read

    def _index(self, value: Value) -> int:
        if value is None or value != value:
            return -1
        return self._places.get(str(value), self._rest)


Reader = NumberReader | CategoryReader


def readers_of(baseline: Baseline, most: int) -> dict[str, Reader]:
    """Make a reader for each of the first `most` signals, by name."""
    readers: dict[str, Reader] = {}
    for name in sorted(baseline.signals)[:most]:
        signal = baseline.signals[name]
        readers[name] = (
            NumberReader(name, signal) if isinstance(signal, NumberBaseline) else CategoryReader(name, signal)
        )
    return readers
