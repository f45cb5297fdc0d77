"""Try ways to serve one bundle, drop the worse half, try the others for longer, and measure the best one in full."""

import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ferryman.bundle.read import load_bundle
from ferryman.client.load import Address, Histogram, Load
from ferryman.core.bundle import Bundle, Choice, CurvePoint, Trial, Tuning
from ferryman.core.errors import FerrymanError
from ferryman.core.progress import Progress, silent
from ferryman.core.runtime import available_cores
from ferryman.server.tuning.asking import requests_of
from ferryman.server.tuning.candidates import list_candidates
from ferryman.server.tuning.machine import describe_machine
from ferryman.server.tuning.measuring import ask_alone, best_rate, make_load, point_of, run_at, usual_limit
from ferryman.server.tuning.scatter import scatter_of
from ferryman.server.tuning.serving import describe, serving

_CURVE = (0.1, 0.3, 0.5, 0.7, 0.85, 1.0, 1.2)  # of the rate that the trials found
_CURVE_SHARE = 0.3  # of the budget
_START_S = 1.5  # about what a server takes to start and stop
_LEAST_S = 0.4
LEAST_BUDGET_S = 10.0  # one way tried, and its curve


class Serve(Protocol):
    """Run a server with one choice for the length of a `with`."""

    def __call__(self, bundle: Path, choice: Choice, *, cores: Sequence[int]) -> AbstractContextManager[Address]:
        """Start it; the address is where it listens."""


@dataclass(frozen=True, slots=True)
class TuneSettings:
    """Say how long to search, what p99 to keep (None: the contract's, else the usual one), on how many cores."""

    budget_s: float = 120.0
    p99_ms: float | None = None
    cores: int = 0


@dataclass(slots=True)
class _Entry:
    choice: Choice
    rate_rps: float = 0.0
    rounds: int = 0
    error: str = ""


def plan_rounds(candidates: int, budget_s: float) -> list[tuple[int, float]]:
    """Give for each round how many candidates it tries and how long (s) it measures each, where a start takes as usual.

    A budget that is too short for all leaves out the last ones.
    """
    counts, left_s, planned = _halvings(candidates), budget_s - _curve_s(budget_s, _START_S), []
    for place, count in enumerate(counts):
        each_s = max(left_s / (len(counts) - place) / count - _START_S, _LEAST_S)
        fitting = min(count, int(left_s / (each_s + _START_S)))
        if fitting > 0:
            planned.append((fitting, each_s))
            left_s -= fitting * (each_s + _START_S)
    return planned or [(1, _LEAST_S)]


def _halvings(candidates: int) -> list[int]:
    counts = [candidates]
    while counts[-1] > 2:
        counts.append((counts[-1] + 1) // 2)
    return counts


def _curve_s(budget_s: float, start_s: float) -> float:
    """Give how much of the budget is the curve's."""
    return max(budget_s * _CURVE_SHARE, len(_CURVE) * _LEAST_S + start_s)


def tune(path: Path, settings: TuneSettings, *, serve: Serve = serving, progress: Progress = silent) -> Tuning:
    """Find the choice that takes the highest rate while the p99 keeps the limit; writes nothing.

    It is over when the budget is, but for what is in work then. Raises FerrymanError where no server became ready, or
    none keeps the limit at any rate.
    """
    start_s = time.monotonic()
    bundle = load_bundle(path)
    search = _Search(bundle, path, settings, serve, progress)
    best = search.halve()
    curve = search.curve_of(best)
    limit_ms, limit_from = search.limit
    kept_rps = _confirmed(curve, limit_ms)
    return Tuning(
        choice=best.choice,
        cores=search.cores,
        machine=describe_machine(),
        limit_p99_ms=limit_ms,
        limit_from=limit_from,
        rate_rps=kept_rps,
        curve=curve,
        trials=tuple(
            Trial(choice=one.choice, rate_rps=one.rate_rps, rounds=one.rounds, error=one.error)
            for one in search.entries
        ),
        seconds=round(time.monotonic() - start_s, 1),
        doubts=scatter_of(search.alone, curve, limit_ms=limit_ms, found_rps=best.rate_rps, kept_rps=kept_rps),
    )


def _confirmed(curve: Sequence[CurvePoint], limit_ms: float) -> float:
    """Give the highest rate of the curve that keeps the limit: what a short trial found is confirmed, or given up."""
    kept = [point.rate_rps for point in curve if point.p99_ms is not None and point.p99_ms <= limit_ms]
    if not kept:
        raise FerrymanError(
            f"what was found doesn't last: even {curve[0].rate_rps:.1f} requests/s had a p99 of {curve[0].p99_ms} ms, "
            f"where {limit_ms:g} ms is the limit",
            hint="is the machine busy? else a larger --budget, or --p99-ms; the bundle is as it was",
        )
    return max(kept)


class _Search:
    def __init__(self, bundle: Bundle, path: Path, settings: TuneSettings, serve: Serve, progress: Progress) -> None:
        self._bundle, self._path = bundle, path
        self._serve, self._progress = serve, progress
        self.cores = settings.cores or available_cores()
        self.entries = [_Entry(choice) for choice in list_candidates(bundle, self.cores)]
        self.limit = _given_limit(bundle, settings)
        self.alone: Histogram | None = None
        self._budget_s = settings.budget_s
        self._end_s = time.monotonic() + settings.budget_s
        self._beside_s = _START_S  # what a trial takes beside its measurement: to start, to stop, to wait for the last

    def halve(self) -> _Entry:
        """Run every round that there is time for; gives the best."""
        left = self.entries
        counts = _halvings(len(left))
        for number, count in enumerate(counts, start=1):
            left = left[:count]
            if not self._run_round(number, left, len(counts)):
                break
            left = _best_first(left)
            self._progress(f"round {number}", note=f"{describe(left[0].choice)}: {left[0].rate_rps:.1f} requests/s")
        best = _best_first(left)[0]
        if best.rate_rps == 0:
            raise FerrymanError(
                f"no way to serve it keeps p99 <= {self.limit[0]:g} ms ({self.limit[1]})", hint="allow more: --p99-ms"
            )
        return best

    def curve_of(self, entry: _Entry) -> tuple[CurvePoint, ...]:
        """Measure the chosen one from nearly idle to more than it can take."""
        points = []
        with self._serve(self._path, entry.choice, cores=self._pinned()) as address:
            load = self._load(address)
            for place, share in enumerate(_CURVE):
                self._progress("curve", done=place, total=len(_CURVE))
                left_s = self._end_s - time.monotonic() - self._beside_s / 2  # half of it is the stop
                duration_s = max(left_s / (len(_CURVE) - place), _LEAST_S)
                points.append(point_of(run_at(load, entry.rate_rps * share, duration_s=duration_s)))
        return tuple(points)

    def _run_round(self, number: int, entries: Sequence[_Entry], rounds: int) -> bool:
        """Try each; tells whether the time was enough."""
        for place, entry in enumerate(entries):
            left_s = self._end_s - _curve_s(self._budget_s, self._beside_s) - time.monotonic()
            is_first = number == 1 and place == 0
            if left_s < self._beside_s + _LEAST_S and not is_first:
                untried = sum(not one.rounds and not one.error for one in self.entries)
                note = f"the budget leaves no time to try {untried} of the {len(self.entries)} ways"
                self._progress(f"round {number}", note=note if untried else "")
                return False
            self._progress(f"round {number}: {describe(entry.choice)}", done=place, total=len(entries))
            # The rounds still to come get as much as this one.
            trials_left = (rounds - number + 1) * len(entries) - place
            self._try(entry, max(left_s / trials_left - self._beside_s, _LEAST_S))
        return True

    def _try(self, entry: _Entry, duration_s: float) -> None:
        begin_s = time.monotonic()
        try:
            with self._serve(self._path, entry.choice, cores=self._pinned()) as address:
                load = self._load(address)
                if not self.limit[1]:
                    # One limit for all: that of the first one, or else a slow choice would excuse itself.
                    self.alone = ask_alone(load, duration_s=max(duration_s * 0.3, _LEAST_S))
                    self.limit = usual_limit(self.alone)
                entry.rate_rps = best_rate(load, entry.choice, limit_s=self.limit[0] / 1e3, duration_s=duration_s)
                entry.rounds += 1
        except FerrymanError as error:
            entry.error = str(error)
        self._beside_s = max(time.monotonic() - begin_s - duration_s, 0.0)

    def _load(self, address: Address) -> Load:
        return make_load(address, requests_of(self._bundle, host=address.host))

    def _pinned(self) -> list[int]:
        allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        return allowed[: self.cores] if self.cores < len(allowed) else []


def _best_first(entries: Sequence[_Entry]) -> list[_Entry]:
    """Sort what was tried by its rate; raises FerrymanError where none became ready."""
    well = [one for one in entries if one.rounds and not one.error]
    if not well:
        failed = next((one.error for one in reversed(entries) if one.error), "it was not tried")
        raise FerrymanError(f"no server became ready; the last one: {failed}")
    return sorted(well, key=lambda one: -one.rate_rps)


def _given_limit(bundle: Bundle, settings: TuneSettings) -> tuple[float, str]:
    if settings.p99_ms:
        return settings.p99_ms, "asked for"
    promised = bundle.deployment.contract.p99_ms
    return (promised, "the contract's p99_ms") if promised else (0.0, "")
