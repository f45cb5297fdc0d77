"""Watch one served version for drift: rows in, changes out."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from ferryman.core.contract import DriftPolicy
from ferryman.core.record import Columns, Value
from ferryman.monitor.baseline import Baseline
from ferryman.monitor.drift.change import DriftChange, Moved
from ferryman.monitor.drift.components import readers_of
from ferryman.monitor.drift.episode import Episode, Sight
from ferryman.monitor.drift.likeness import Likeness
from ferryman.monitor.drift.packed import pack, unpack
from ferryman.monitor.drift.scores import Scoring
from ferryman.monitor.drift.season import PERIODS_S, Season
from ferryman.monitor.drift.telling import OF_HOURS, strongest, tell
from ferryman.monitor.drift.threshold import expected_alarms, threshold, weight_of
from ferryman.monitor.drift.traffic import Traffic
from ferryman.monitor.drift.windows import Windows

Floats = NDArray[np.float64]

MOST_SIGNALS = 1000
"""How many signals of one model are watched, so that memory is bounded; `state` tells how many are left out."""
SETTLED_BLOCKS = 32
"""Blocks before the first alarm: neighbours that are alike can't be told from a change in fewer."""
_LONGEST_S = 8 * 86400.0  # of a window
_STALE_S = 10.0  # a block that is not full is closed then
_LONGEST_TEXT = 1000
_RESOLUTIONS = 20
_LEARNT_ROWS = 2000
_FACTORS_EVERY = 16  # blocks


class DriftWatch:
    """Compare every row of one served version with its bundle's baseline, at all time scales at once.

    A value becomes its random rank among the baseline's, uniform without drift whatever its distribution (a conformal
    p-value); means of ranks over windows of 1 block to 8 days are scored against what chance does, the size of the
    baseline and the likeness of neighbours included; the highest score of all is set beside a threshold that follows
    from `policy.false_alarms` at the traffic that comes. Memory is bounded, whatever comes. Not thread safe.
    """

    def __init__(self, baseline: Baseline, policy: DriftPolicy, *, seed: int = 0) -> None:
        self._policy = policy
        self._readers = readers_of(baseline, MOST_SIGNALS)
        self._left_out = len(baseline.signals) - len(self._readers)
        self._components = [component for reader in self._readers.values() for component in reader.components]
        self._places = [name for name, reader in self._readers.items() for _ in reader.components]
        self._scoring = Scoring(self._components, policy.tolerance)
        self._weight = weight_of(self._components)
        stored = repr((baseline.to_json(), policy.season, policy.tolerance)).encode()
        self._identity = hashlib.sha256(stored).hexdigest()
        self._rng = np.random.default_rng(seed)
        size = len(self._components)
        self._windows = Windows(size, _RESOLUTIONS)
        self._likeness = Likeness(size, _RESOLUTIONS)
        self._season = Season(size, PERIODS_S[policy.season])
        self._traffic = Traffic()
        self._episode = Episode()
        self._latest = np.zeros((_RESOLUTIONS, size))
        self._factor = np.ones(size)
        # Values outside the range are too rare to tell how alike they are: they are as alike as the spread.
        self._like = np.asarray([at - (each.kind == "outside") for at, each in enumerate(self._components)], np.int64)
        self._limit = threshold(self._weight, 1.0)
        self._rows = 0
        self._weighted = 0.0
        self._blocks = 0
        self._unknown: set[str] = set()
        self._pending: dict[str, list[Value]] = {name: [] for name in self._readers}
        self._times: list[float] = []
        self.notice = ""
        """Why a state that was to be restored was not."""

    @property
    def is_drifted(self) -> bool:
        """Tell whether there is drift now."""
        return self._episode.is_on

    @property
    def limit(self) -> float:
        """Give the threshold as it is at the traffic that comes."""
        return self._limit

    def add(self, columns: Columns, at_s: float, weight: float = 1.0) -> list[DriftChange]:
        """Take rows that came at Unix time `at_s`, each standing for `weight` requests; gives what they began or ended.

        Signals without a baseline are passed over, values that fit no signal count as missing.
        """
        rows = max((len(values) for values in columns.values()), default=0)
        if not rows or not self._components:
            return []
        if not math.isfinite(at_s):
            at_s = self._traffic.last_s or 0.0
        self._traffic.add(at_s, rows)
        self._rows += rows
        self._weighted += rows * (weight if math.isfinite(weight) and weight > 0 else 1.0)
        for name in columns:
            if name not in self._readers and len(self._unknown) < MOST_SIGNALS:
                self._unknown.add(name[:_LONGEST_TEXT])
        for name, pending in self._pending.items():
            values = [_bounded(value) for value in columns.get(name, ())[:rows]]
            pending.extend(values)
            pending.extend([None] * (rows - len(values)))
        self._times.extend([at_s] * rows)
        return self._take_blocks()

    def state(self) -> dict[str, JsonValue]:
        """Tell what is known now, as JSON; scores and thresholds are in standard deviations of what chance does."""
        scores = self._latest.max(axis=0) if self._components else np.zeros(0)
        signals: dict[str, float] = {}
        for name, score in zip(self._places, scores.tolist(), strict=True):
            signals[name] = max(signals.get(name, 0.0), round(score, 3))
        blocks = self._traffic.blocks_in(self._policy.interval_s)
        settled = self._blocks >= SETTLED_BLOCKS
        unknown = self._season.told
        return {
            "drifted": self.is_drifted,
            "since_s": self._episode.began_s if self.is_drifted else None,
            "moved": [entry.to_json() for entry in self._moved()],
            "threshold": round(self._limit, 3),
            "scores": {name: signals[name] for name in sorted(signals, key=lambda name: (-signals[name], name))},
            "rows": self._rows,
            "requests": round(self._weighted),
            "rows_a_second": round(self._traffic.rows_a_second, 6),
            "block_rows": self._traffic.block_rows,
            "false_alarms": self._policy.false_alarms,
            "expected_false_alarms": round(expected_alarms(self._weight, blocks, self._limit), 4),
            "alike": round(float(self._factor.max(initial=1.0)), 2),
            "season": f"{self._policy.season}, not yet learnt: {unknown}" if unknown else self._policy.season,
            "ready": settled,
            "unknown_signals": len(self._unknown),
            "unwatched_signals": self._left_out,
            "notice": self.notice,
        }

    def save(self) -> dict[str, JsonValue]:
        """Give what `restore` takes: JSON, some tens of kB for ten signals."""
        traffic, season, episode = self._traffic, self._season, self._episode
        figures: dict[str, JsonValue] = {
            "traffic": [traffic.last_s, traffic.elapsed_s, traffic.rows, traffic.blocks],
            "season": [season.periods, season.begun],
            "episode": [episode.began_s, episode.need, episode.age],
            "moved": [
                [place, seen.score, seen.rows, seen.total, seen.since_s, seen.blocks]
                for place, seen in episode.moved.items()
            ],
            "seen": [self._rows, self._weighted, self._blocks],
        }
        return pack(self._identity, figures, self._arrays())

    @classmethod
    def restore(cls, baseline: Baseline, policy: DriftPolicy, saved: object, *, seed: int = 0) -> Self:
        """Go on from what `save` gave. What is damaged, or of another baseline, is refused: `notice` says so."""
        watch = cls(baseline, policy, seed=seed)
        try:
            figures, arrays = unpack(saved, watch._identity, watch._arrays())
            watch._take(figures, arrays)
        except ValueError as error:
            watch = cls(baseline, policy, seed=seed)
            watch.notice = f"the watch starts anew: {error}"
        return watch

    def _take_blocks(self) -> list[DriftChange]:
        size = self._traffic.block_rows
        if len(self._times) < size and self._times[-1] - self._times[0] < _STALE_S:
            return []
        rows = max(len(self._times) // size * size, min(len(self._times), size))
        read = self._read({name: pending[:rows] for name, pending in self._pending.items()}, rows)
        times = self._times[:rows]
        for pending in self._pending.values():
            del pending[:rows]
        del self._times[:rows]
        if self._is_learning:
            self._likeness.add_rows(read)
        changes = []
        for start in range(0, rows, size):
            change = self._take_block(read[start : start + size], times[start])
            if change is not None:
                changes.append(change)
        return changes

    def _take_block(self, read: Floats, at_s: float) -> DriftChange | None:
        self._blocks += 1
        self._traffic.blocks += 1
        known = ~np.isnan(read)
        counts = known.sum(axis=0).astype(np.float64)
        sums = np.where(known, read, 0.0).sum(axis=0)
        self._season.add(at_s, counts, sums)
        usual = self._season.usual(at_s)
        if usual is not None:
            sums = sums - usual * counts
        ended = self._windows.add(counts, sums, at_s)
        if self._is_learning:
            self._learn_likeness(ended)
        if self._blocks % _FACTORS_EVERY == 0:
            self._factor = self._factors()
            self._limit = threshold(self._weight, self._traffic.blocks_in(self._policy.interval_s))
        return self._look(ended, at_s)

    @property
    def _is_learning(self) -> bool:
        # Rows of a drift would make those before it look alike; but where little is known, it may be no drift.
        return not self._episode.is_on or self._rows < _LEARNT_ROWS

    def _factors(self) -> Floats:
        factor = self._likeness.factor()
        return np.asarray(np.maximum(factor, factor[self._like]))

    def _learn_likeness(self, ended: list[int]) -> None:
        for resolution in ended:
            if self._windows.filled[resolution] >= 2:
                pair = slice(-2, None)
                counts, sums = self._windows.counts[resolution, pair], self._windows.sums[resolution, pair]
                self._likeness.add_pair(resolution, counts, sums)

    def _look(self, ended: list[int], at_s: float) -> DriftChange | None:
        was_on, is_over = self._episode.is_on, False
        self._episode.age += was_on
        for spans in self._windows.spans(ended):
            scores = self._scoring.score(spans.counts, spans.sums, self._factor)
            scores[np.abs(spans.starts - at_s) > _LONGEST_S] = 0.0
            self._latest[spans.resolution] = np.abs(scores).max(axis=0)
            if self._blocks < SETTLED_BLOCKS:
                continue
            if was_on:
                is_over = is_over or self._episode.is_over(spans, scores, self._limit)
            self._episode.look(spans, scores, self._limit)
        if was_on and is_over:
            change = DriftChange("ended", at_s, self._moved())
            self._episode = Episode()
            self._windows.reset()
            self._latest[:] = 0.0
            return change
        if not was_on and self._episode.is_on:
            self._episode.began_s = min(sight.since_s for sight in self._episode.moved.values())
            return DriftChange("began", at_s, self._moved())
        return None

    def _moved(self) -> tuple[Moved, ...]:
        told, season = [], self._season.told
        # What the baseline never had is no hour of it, whatever else the same signal does.
        beyond = {self._places[at] for at in self._episode.moved if self._components[at].kind not in OF_HOURS}
        for place, sight in self._episode.moved.items():
            name = self._places[place]
            unsure = "" if name in beyond else season
            told.append(tell(self._components[place], self._readers[name], sight, self._limit, season=unsure))
        return strongest(told)

    def _read(self, values: Mapping[str, list[Value]], rows: int) -> Floats:
        if not self._readers:
            return np.zeros((rows, 0))
        parts = [reader.read(values[name], self._rng) for name, reader in self._readers.items()]
        return np.concatenate(parts, axis=1)

    def _arrays(self) -> dict[str, NDArray[Any]]:  # of floats or counts
        arrays: dict[str, NDArray[Any]] = {"latest": self._latest}
        for owner, names in (
            (self._windows, ("counts", "sums", "starts", "filled")),
            (self._likeness, ("squares", "seen", "rows", "first", "second")),
            (self._season, ("counts", "sums", "days", "now_counts", "now_sums")),
        ):
            for name in names:
                arrays[f"{type(owner).__name__}.{name}"] = getattr(owner, name)
        return arrays

    def _take(self, figures: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:  # JSON
        for name, array in self._arrays().items():
            array[...] = arrays[name]
        traffic, season = self._traffic, self._season
        traffic.last_s, traffic.elapsed_s, traffic.rows, traffic.blocks = figures["traffic"]
        season.periods, season.begun = figures["season"]
        season.relearn()
        self._episode.began_s, self._episode.need, self._episode.age = figures["episode"]
        self._episode.moved = {row[0]: Sight(*row[1:]) for row in figures["moved"]}
        self._rows, self._weighted, self._blocks = figures["seen"]
        self._factor = self._factors()
        self._limit = threshold(self._weight, traffic.blocks_in(self._policy.interval_s))


def _bounded(value: Value) -> Value:
    return value[:_LONGEST_TEXT] if isinstance(value, str) else value
