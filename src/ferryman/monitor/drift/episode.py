"""Whether there is drift: what passed the threshold, and what is calm again."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ferryman.monitor.drift.windows import Spans

Floats = NDArray[np.float64]

_CALM = 0.5  # of the threshold: where scores of as many rows as began it stay below, it is over
_LONGER = 1.5  # windows that tell an end are so many times those that told the beginning
_LONGEST = 6.0


@dataclass(slots=True)
class Sight:
    """Hold the window in which a component's score was highest: signed score, rows, their sum, its start, blocks."""

    score: float
    rows: float
    total: float
    since_s: float
    blocks: int


@dataclass
class Episode:
    """Hold what moved while there is drift; empty while there is none."""

    moved: dict[int, Sight] = field(default_factory=dict)
    began_s: float = 0.0
    need: int = 0
    age: int = 0  # blocks since it began

    @property
    def is_on(self) -> bool:
        """Tell whether there is drift."""
        return bool(self.moved)

    def look(self, spans: Spans, scores: Floats, limit: float) -> None:
        """Note the components whose score passes the limit in these windows, [W, C]."""
        size = np.abs(scores)
        for component in np.flatnonzero(size.max(axis=0) > limit):
            row = int(size[:, component].argmax())
            old = self.moved.get(int(component))
            if old is not None and abs(old.score) >= size[row, component]:
                continue
            blocks = blocks_of(spans)[row]
            since_s = old.since_s if old is not None else float(spans.starts[row])
            self.moved[int(component)] = Sight(
                float(scores[row, component]),
                float(spans.counts[row, component]),
                float(spans.sums[row, component]),
                since_s,
                int(blocks),
            )
            if self.need == 0:
                self.need = int(blocks)

    def is_over(self, spans: Spans, scores: Floats, limit: float) -> bool:
        """Tell whether one of these windows is long enough, all of it after the beginning, and calm."""
        blocks = blocks_of(spans)
        fit = (blocks >= _LONGER * self.need) & (blocks <= max(_LONGEST * self.need, 16)) & (blocks <= self.age)
        if not fit.any():
            return False
        size = np.abs(scores[fit])
        calm = size[:, list(self.moved)].max(axis=1) < _CALM * limit
        return bool((calm & (size.max(axis=1) < limit)).any())


def blocks_of(spans: Spans) -> NDArray[np.int64]:
    """Give how many blocks each of these windows has, [W]."""
    longest = 8 if len(spans.starts) == 8 else len(spans.starts) + (0 if spans.resolution == 0 else 4)
    lengths = np.arange(longest - len(spans.starts) + 1, longest + 1)
    return np.asarray(lengths << spans.resolution, np.int64)
