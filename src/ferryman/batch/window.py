"""Drift of a batch: it is one window, set beside the baseline once; no stream, so there is no time in it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from ferryman.core.contract import DriftPolicy
from ferryman.core.record import Columns
from ferryman.monitor.baseline import Baseline, numbers_of
from ferryman.monitor.drift.components import NumberReader, readers_of
from ferryman.monitor.drift.episode import Sight
from ferryman.monitor.drift.likeness import Likeness
from ferryman.monitor.drift.scores import Scoring
from ferryman.monitor.drift.telling import strongest, tell

Floats = NDArray[np.float64]
Summary = dict[str, Any]  # JSON: what one chunk adds to the window

LEAST_ROWS = 32
"""In fewer rows, neighbours that are alike can't be told from a change."""
_MOST_SIGNALS = 1000
_RESOLUTIONS = 20
_KEPT = 64
_DAY_S = 86400.0
_LARGEST_SHARE = 0.05


def false_alarm_share(policy: DriftPolicy) -> float:
    """Give the share of batches that may be called drifted by mistake: as if one came a day, and 5 % at most."""
    return min(_LARGEST_SHARE, _DAY_S / policy.interval_s)


class Window:
    """Add chunks up to one window, and score it as `ferryman.monitor.drift` does: by ranks among the baseline's values.

    What a chunk adds is of bounded size and depends on its rows and number alone, so that a batch in any number of
    runs and processes has one verdict.
    """

    def __init__(self, baseline: Baseline, policy: DriftPolicy) -> None:
        self._policy = policy
        self._readers = readers_of(baseline, _MOST_SIGNALS)
        self._components = [component for reader in self._readers.values() for component in reader.components]
        self._scoring = Scoring(self._components, policy.tolerance)

    def summarise(self, columns: Columns, rows: int, seed: int) -> Summary:
        """Give what a chunk of `rows` answered rows adds."""
        if not rows or not self._components:
            return {"rows": 0}
        rng = np.random.default_rng([seed, rows])
        self._take_newest(dict.fromkeys(self._readers, ""))  # that of another chunk is none of this one's
        nothing = [None] * rows
        read = np.concatenate(
            [reader.read(columns.get(name, nothing), rng) for name, reader in self._readers.items()], axis=1
        )
        known = ~np.isnan(read)
        values = np.where(known, read, 0.0)
        newest = {name: reader.newest for name, reader in self._readers.items() if not isinstance(reader, NumberReader)}
        return {
            "rows": rows,
            "counts": known.sum(axis=0).tolist(),
            "sums": values.sum(axis=0).tolist(),
            "squares": (values**2).sum(axis=0).tolist(),
            "alike": _differences(known.astype(np.float64), values),
            "seen": {name: _spread(columns.get(name, ()), rows) for name in self._numbers()},
            "newest": {name: text for name, text in newest.items() if text},
        }

    def judge(self, summaries: Iterable[Summary]) -> dict[str, JsonValue]:
        """Tell whether all chunks together are as the baseline: `verdict` is drift, none, or why there is no saying."""
        size = len(self._components)
        totals = np.zeros((3, size))
        alike = np.zeros((2, _RESOLUTIONS, size))
        seen: dict[str, list[float]] = {name: [] for name in self._numbers()}
        rows, every = 0, 1
        for number, part in enumerate(part for part in summaries if part["rows"]):
            rows += part["rows"]
            totals += np.asarray([part["counts"], part["sums"], part["squares"]])
            for resolution, pair in enumerate(part["alike"]):
                alike[:, resolution] += np.asarray(pair)
            self._take_newest(part["newest"])
            if number % every == 0:
                for name, values in part["seen"].items():
                    seen[name] += values
                if number // every >= _KEPT:  # half of the chunks stand for all from here on
                    seen, every = {name: values[::2] for name, values in seen.items()}, every * 2
        told: dict[str, JsonValue] = {"rows": rows, "signals": len(self._readers), "verdict": "", "moved": []}
        if not size:
            return told | {"verdict": "the bundle has no baseline of signals"}
        if rows < LEAST_ROWS:
            return told | {"verdict": f"too few rows to tell: {rows}, {LEAST_ROWS} are needed"}
        factor = self._factor(totals, alike, rows)
        scores = self._scoring.score(totals[:1], totals[1:2], factor)[0]
        share = false_alarm_share(self._policy)
        limit = math.sqrt(2 * math.log(2 * size / share))
        moved = self._moved(scores, totals, limit, seen)
        told["verdict"] = "drift" if moved else "none"
        told["moved"] = [{name: value for name, value in one.to_json().items() if name != "since_s"} for one in moved]
        return told | {
            "highest": round(float(np.abs(scores).max()), 3),
            "threshold": round(limit, 3),
            "false_alarm_share": round(share, 6),
            "alike": round(float(factor.max()), 2),
        }

    def _factor(self, totals: Floats, alike: Floats, rows: int) -> Floats:
        likeness = Likeness(len(self._components), _RESOLUTIONS)
        counts = np.maximum(totals[0], 1)
        likeness.rows[:] = totals[0]
        likeness.first[:], likeness.second[:] = totals[1] / counts, totals[2] / counts
        likeness.seen[:] = alike[0]
        likeness.squares[:] = alike[1] / np.maximum(alike[0], 1)
        factor = np.minimum(likeness.factor(), rows)
        # As in the watch: values outside the range are too rare to tell how alike they are.
        like = np.asarray([at - (one.kind == "outside") for at, one in enumerate(self._components)], np.int64)
        return np.asarray(np.maximum(factor, factor[like]))

    def _moved(self, scores: Floats, totals: Floats, limit: float, seen: Mapping[str, Sequence[float]]) -> Any:  # Moved
        told = []
        for place in np.flatnonzero(np.abs(scores) > limit):
            component = self._components[place]
            reader = self._readers[component.signal]
            if isinstance(reader, NumberReader):
                reader.recent = np.asarray(seen[component.signal], np.float64)
            sight = Sight(float(scores[place]), float(totals[0, place]), float(totals[1, place]), 0.0, 1)
            told.append(tell(component, reader, sight, limit))
        return strongest(told)

    def _take_newest(self, newest: Mapping[str, str]) -> None:
        for name, text in newest.items():
            reader = self._readers.get(name)
            if reader is not None and not isinstance(reader, NumberReader):
                reader.newest = text

    def _numbers(self) -> list[str]:
        return [name for name, reader in self._readers.items() if isinstance(reader, NumberReader)]


def _differences(counts: Floats, sums: Floats) -> list[list[list[float]]]:
    """Give, for blocks of 1, 2, 4 ... rows, how many neighbours were compared and their squares' sum, [C] each."""
    found = []
    while len(counts) >= 2:
        even = len(counts) // 2 * 2
        before, after = slice(0, even, 2), slice(1, even, 2)
        both = (counts[before] > 0) & (counts[after] > 0)
        safe_before, safe_after = np.maximum(counts[before], 1), np.maximum(counts[after], 1)
        difference = sums[after] / safe_after - sums[before] / safe_before
        squares = np.where(both, difference**2 / (1 / safe_before + 1 / safe_after), 0.0)
        found.append([both.sum(axis=0).tolist(), squares.sum(axis=0).tolist()])
        counts, sums = counts[before] + counts[after], sums[before] + sums[after]
    return found[:_RESOLUTIONS]


def _spread(values: Sequence[Any], rows: int) -> list[float]:  # a signal's
    """Give some values that stand for all: those at even ranks."""
    numbers = numbers_of(values)
    known = np.sort(numbers[np.isfinite(numbers)])
    kept = min(_KEPT, len(known), max(1, rows))
    places = ((np.arange(kept) + 0.5) * len(known) / kept).astype(np.int64) if kept else np.zeros(0, np.int64)
    return [float(value) for value in known[places]]
