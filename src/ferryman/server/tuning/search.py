"""Try ways to serve one bundle, drop the worse half, try the others for longer, and measure the best one in full."""

import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ferryman.bundle.read import load_bundle
from ferryman.client.load import Address, Load
from ferryman.core.bundle import Bundle, Choice, CurvePoint, Trial, Tuning
from ferryman.core.errors import FerrymanError
from ferryman.core.progress import Progress, silent
from ferryman.core.runtime import available_cores
from ferryman.server.tuning.asking import requests_of
from ferryman.server.tuning.candidates import list_candidates
from ferryman.server.tuning.machine import describe_machine
from ferryman.server.tuning.measuring import best_rate, make_load, point_of, run_at, usual_limit_s
from ferryman.server.tuning.serving import describe, serving

_CURVE = (0.1, 0.3, 0.5, 0.7, 0.85, 1.0, 1.2)  # of the rate that the trials found
_CURVE_SHARE = 0.3  # of the budget
_START_S = 1.5  # about what a server takes to start and stop
_LEAST_S = 0.4


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
    """Give for each round how many candidates it tries and how long (s) it measures each."""
    counts = [candidates]
    while counts[-1] > 2:
        counts.append((counts[-1] + 1) // 2)
    share_s = budget_s * (1 - _CURVE_SHARE) / len(counts)
    return [(count, max(share_s / count - _START_S, _LEAST_S)) for count in counts]


def tune(path: Path, settings: TuneSettings, *, serve: Serve = serving, progress: Progress = silent) -> Tuning:
    """Find the choice that takes the highest rate while the p99 keeps the limit; writes nothing.

    Raises FerrymanError where no server became ready, or none keeps the limit at any rate.
    """
    start_s = time.monotonic()
    bundle = load_bundle(path)
    search = _Search(bundle, path, settings, serve, progress)
    best = search.halve()
    curve = search.curve_of(best, duration_s=settings.budget_s * _CURVE_SHARE)
    limit_ms, limit_from = search.limit
    return Tuning(
        choice=best.choice,
        cores=search.cores,
        machine=describe_machine(),
        limit_p99_ms=limit_ms,
        limit_from=limit_from,
        # What a short trial found is confirmed by the curve, or given up.
        rate_rps=max((one.rate_rps for one in curve if one.p99_ms is not None and one.p99_ms <= limit_ms), default=0.0),
        curve=curve,
        trials=tuple(
            Trial(choice=one.choice, rate_rps=one.rate_rps, rounds=one.rounds, error=one.error)
            for one in search.entries
        ),
        seconds=round(time.monotonic() - start_s, 1),
    )


class _Search:
    def __init__(self, bundle: Bundle, path: Path, settings: TuneSettings, serve: Serve, progress: Progress) -> None:
        self._bundle, self._path, self._settings = bundle, path, settings
        self._serve, self._progress = serve, progress
        self.cores = settings.cores or available_cores()
        self.entries = [_Entry(choice) for choice in list_candidates(bundle, self.cores)]
        self.limit = _given_limit(bundle, settings)
        self._end_s = time.monotonic() + settings.budget_s * (1 - _CURVE_SHARE)
        self._start_s = _START_S

    def halve(self) -> _Entry:
        """Run every round; gives the best."""
        left = self.entries
        rounds = plan_rounds(len(left), self._settings.budget_s)
        for number, (count, _) in enumerate(rounds, start=1):
            left = left[:count]
            if number > 1 and time.monotonic() >= self._end_s:
                break
            for place, entry in enumerate(left):
                self._progress(f"round {number}: {describe(entry.choice)}", done=place, total=len(left))
                self._try(entry, self._share_s((len(rounds) - number + 1) * count - place))
            left = sorted((one for one in left if not one.error), key=lambda one: -one.rate_rps)
            if not left:
                raise FerrymanError(f"no server became ready; the last one: {self.entries[-1].error}")
            self._progress(f"round {number}", note=f"{describe(left[0].choice)}: {left[0].rate_rps:.1f} requests/s")
        if left[0].rate_rps == 0:
            raise FerrymanError(
                f"no way to serve it keeps p99 <= {self.limit[0]:g} ms ({self.limit[1]})", hint="allow more: --p99-ms"
            )
        return left[0]

    def curve_of(self, entry: _Entry, *, duration_s: float) -> tuple[CurvePoint, ...]:
        """Measure the chosen one from nearly idle to more than it can take."""
        points = []
        with self._serve(self._path, entry.choice, cores=self._pinned()) as address:
            load = self._load(address)
            for place, share in enumerate(_CURVE):
                self._progress("curve", done=place, total=len(_CURVE))
                tally = run_at(load, entry.rate_rps * share, duration_s=max(duration_s / len(_CURVE), _LEAST_S))
                points.append(point_of(tally))
        return tuple(points)

    def _share_s(self, trials_left: int) -> float:
        """Give how long to measure now, so that the rounds still to come get as much as this one."""
        left_s = self._end_s - time.monotonic()
        return max(left_s / trials_left - self._start_s, _LEAST_S)

    def _try(self, entry: _Entry, duration_s: float) -> None:
        begin_s = time.monotonic()
        try:
            with self._serve(self._path, entry.choice, cores=self._pinned()) as address:
                self._start_s = time.monotonic() - begin_s
                load = self._load(address)
                if not self.limit[1]:
                    # One limit for all: that of the first one, or else a slow choice would excuse itself.
                    limit_s = usual_limit_s(load, duration_s=max(duration_s * 0.3, _LEAST_S))
                    self.limit = (round(limit_s * 1e3, 3), "the usual: 4 x one request alone, at least 5 ms")
                entry.rate_rps = best_rate(load, entry.choice, limit_s=self.limit[0] / 1e3, duration_s=duration_s)
                entry.rounds += 1
        except FerrymanError as error:
            entry.error = str(error)

    def _load(self, address: Address) -> Load:
        return make_load(address, requests_of(self._bundle, host=address.host))

    def _pinned(self) -> list[int]:
        allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        return allowed[: self.cores] if self.cores < len(allowed) else []


def _given_limit(bundle: Bundle, settings: TuneSettings) -> tuple[float, str]:
    if settings.p99_ms:
        return settings.p99_ms, "asked for"
    promised = bundle.deployment.contract.p99_ms
    return (promised, "the contract's p99_ms") if promised else (0.0, "")
