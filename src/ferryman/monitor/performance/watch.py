"""Performance as it stands: feedback is joined, metrics are measured, what has no labels is estimated."""

import itertools
import logging
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferryman.core.errors import FerrymanError
from ferryman.monitor.alerts.fact import Reading
from ferryman.monitor.baseline import Baseline
from ferryman.monitor.performance.estimate import Estimate, estimate, refute
from ferryman.monitor.performance.feedback import Feedback
from ferryman.monitor.performance.join import confidences, join
from ferryman.monitor.performance.ledger import Ledger
from ferryman.monitor.performance.outcome import Outcomes, columns_of
from ferryman.monitor.performance.promise import Promise
from ferryman.monitor.performance.rolling import LOOK_S, MOST, Rolling, roll
from ferryman.monitor.performance.slices import Slice, slice_up
from ferryman.monitor.store.engine import is_installed
from ferryman.monitor.store.retention import oldest_allowed_s

_SHARE, _LONGEST_S = 0.05, 60.0  # of a core's time, and the longest pause that makes of it
_ESTIMATE_S, _ESTIMATED_S = 300.0, 86_400.0
_MOST_JOINED, _MOST_VERSIONS, _MOST_SLICES, _MOST_NAMED = 5000, 50, 10, 5
_BATCHES = 4  # of one step: sealing waits for it
_NO_CONFIDENCES = (
    "answers have no confidences, so nothing tells whether they are right but labels",
    "what confidences tell of boxes is whether those found are right, not how many were missed",
)
_log = logging.getLogger("ferryman.watch")

Key = tuple[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Hold what a served version's bundle says: its promise (None: built without labels) and its baseline."""

    promise: Promise | None = None
    baseline: Baseline | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Hold how one version stands; `why_not` says why there is no estimate."""

    model: str
    version: str
    rolling: Rolling | None = None
    slices: Sequence[Slice] = ()
    estimate: Estimate | None = None
    why_not: str = ""
    labelled: int = 0
    last_at_s: float = math.nan
    strange: Mapping[str, int] | None = None

    def to_json(self) -> dict[str, Any]:  # JSON
        """Give JSON values: `rolling` and `estimate` are null where they aren't known."""
        return {
            "model": self.model,
            "version": self.version,
            "labelled": self.labelled,
            "last_labelled_at_s": self.last_at_s if math.isfinite(self.last_at_s) else None,
            "rolling": self.rolling.to_json() if self.rolling is not None else None,
            "slices": [each.to_json() for each in self.slices],
            "labels_never_answered": dict(self.strange or {}),
            "estimate": self.estimate.to_json() if self.estimate is not None else None,
            "no_estimate": self.why_not,
        }


class PerformanceWatch:
    """Keep feedback beside the records of `folder`. `take` and `tell` may be called from another thread than `step`."""

    def __init__(self, folder: Path, *, keep_days: float) -> None:
        """Open the ledger; raises MissingExtra or NotReady."""
        self.ledger = Ledger(folder)
        self._records = folder / "records"
        self._keep_days = keep_days
        self._standings: dict[Key, Standing] = {}
        self._estimates: Mapping[Key, Estimate] = {}
        self._counts: dict[str, int] = {}
        self._known: Mapping[Key, Known] = {}
        self._due_s = self._estimate_due_s = -math.inf
        self._said = ""

    def take(self, feedback: Sequence[Feedback], now_s: float) -> dict[str, int]:
        """Keep feedback, on the disk before this returns; raises NotReady."""
        return self.ledger.take(feedback, now_s)

    def step(self, known: Mapping[Key, Known], now_s: float) -> None:
        """Do what is due, within its share of the time; a fault is logged once, and tried again."""
        if time.monotonic() < self._due_s and known == self._known:
            return
        is_installed()  # DuckDB is imported once: that is no cost of a turn
        begun_s = time.thread_time()
        try:
            self.refresh(known, now_s)
            self._said = ""
        except FerrymanError as error:
            if str(error) != self._said:
                self._said = str(error)
                _log.warning("performance can't be told: %s; %s", error, error.hint)
        pause_s = min((time.thread_time() - begun_s) / _SHARE, _LONGEST_S)
        self._due_s = time.monotonic() + max(LOOK_S, pause_s)

    def refresh(self, known: Mapping[Key, Known], now_s: float) -> None:
        """Join what waits, and measure; raises FerrymanError."""
        joined = self.join(now_s, batches=_BATCHES) if is_installed() else 0
        is_news = joined > 0 or not self._standings or known != self._known
        is_due = time.monotonic() >= self._estimate_due_s or known != self._known
        if is_due and is_installed():
            self.ledger.trim(oldest_allowed_s(now_s, self._keep_days))
            self._estimates = self._estimate(known, now_s)
            self._estimate_due_s = time.monotonic() + _ESTIMATE_S
        if is_news or is_due:
            self._standings = self._measure(known)
        self._known = dict(known)
        self._counts = self.ledger.figures()

    def join(self, now_s: float, *, batches: int | None = None) -> int:
        """Join what is due with the records, at most so many times 5,000; gives how many outcomes that made."""
        joined = 0
        for _ in range(batches) if batches is not None else itertools.count():
            if not (feedback := self.ledger.due(now_s, _MOST_JOINED)):
                break
            outcomes, refused = join(self._records, feedback)
            self.ledger.settle(feedback, outcomes, refused, now_s)
            joined += len(outcomes)
        return joined

    def tell(self) -> dict[str, Any]:  # JSON
        """Give how it stands: `versions`, and `feedback` (counts by what became of it)."""
        return {"feedback": self._counts, "versions": [each.to_json() for each in self._standings.values()]}

    def brief(self) -> list[dict[str, Any]]:  # JSON
        """Give what metrics show of each served version."""
        return [
            {
                "model": each.model,
                "version": each.version,
                "labelled": each.labelled,
                "drop": each.rolling.drop.least if each.rolling is not None and each.rolling.drop is not None
                and each.rolling.drop.is_contract else None,
                "metric": each.rolling.figures[-1].value if each.rolling is not None else None,
                "estimate": each.estimate.value if each.estimate is not None else None,
            }
            for key, each in self._standings.items() if key in self._known
        ]  # fmt: skip

    def readings(self) -> list[Reading]:
        """Give the least drop that is possible of each served version's contract metric: what an alert goes by."""
        found = []
        for key, each in self._standings.items():
            drop = each.rolling.drop if each.rolling is not None else None
            if key in self._known and drop is not None and drop.is_contract and each.rolling is not None:
                figure = next(one for one in each.rolling.figures if one.count == drop.window)
                said = f"{figure.metric} {figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f}) over the latest "
                said += f"{figure.count} labelled items, {drop.promised:.3f} in the proof"
                found.append(Reading("performance", drop.least, each.model, each.version, said))
        return found

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    def _measure(self, known: Mapping[Key, Known]) -> dict[Key, Standing]:
        keys = [*known, *(key for key in self.ledger.versions() if key not in known)][:_MOST_VERSIONS]
        return {key: self._stand(key, known.get(key, Known())) for key in keys}

    def _stand(self, key: Key, known: Known) -> Standing:
        outcomes = columns_of(self.ledger.outcomes(*key, MOST))
        rolling = roll(outcomes, known.promise)
        slices = slice_up(outcomes, known.baseline, effect=rolling.effect) if rolling is not None else []
        found, why_not = self._estimates.get(key), _why_not(known)
        promise = known.promise
        if found is not None and rolling is not None and promise is not None and promise.reliability is not None:
            why_not = refute(outcomes, promise.reliability, effect=rolling.effect, interval_s=promise.interval_s)
        return Standing(
            *key,
            rolling=rolling,
            slices=slices[:_MOST_SLICES],
            estimate=found if not why_not else None,
            why_not=why_not,
            labelled=len(outcomes.rows),
            last_at_s=float(outcomes.at_s[-1]) if outcomes.rows else math.nan,
            strange=_strange(outcomes),
        )

    def _estimate(self, known: Mapping[Key, Known], now_s: float) -> dict[Key, Estimate]:
        wanted = {key: each.promise for key, each in known.items() if not _why_not(each)}
        found = confidences(self._records, now_s - _ESTIMATED_S) if wanted else {}
        made = {}
        for key, promise in wanted.items():
            if promise is not None and promise.reliability is not None and key in found:
                standing = self._standings.get(key)
                effect = standing.rolling.effect if standing is not None and standing.rolling is not None else 1.0
                made[key] = estimate(*found[key], promise.reliability, effect=effect)
        return {key: each for key, each in made.items() if each is not None}


def _why_not(known: Known) -> str:
    """Say why nothing can be estimated; "" where it can, once answers have come."""
    promise = known.promise
    if promise is None:
        return "the bundle has no proof of a metric: build with labelled data"
    if promise.right is None:
        return _NO_CONFIDENCES[promise.reliability is not None]
    return "" if promise.reliability is not None else "the proof doesn't say how well confidences tell: build again"


def _strange(outcomes: Outcomes) -> dict[str, int]:
    """Count truths that were never answered: a new class, or labels that are written otherwise than the model's."""
    answered = {row.label for row in outcomes.rows}
    truths = Counter(row.truth for row in outcomes.rows if row.label is not None and isinstance(row.truth, str))
    strange = [(truth, count) for truth, count in truths.most_common() if truth not in answered]
    return dict(strange[:_MOST_NAMED])
