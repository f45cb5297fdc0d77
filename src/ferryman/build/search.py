"""Search: try candidate after candidate, with a time budget the cheapest first, until all are judged or time is up."""

import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

from ferryman.build.cache import Cache
from ferryman.build.exports import Result
from ferryman.build.plan import ON_DEVICE, Candidate, Plan, uncalibrated
from ferryman.build.repair import Options, Outcome, Repairer
from ferryman.build.verdict import untried
from ferryman.build.workshop import Workshop
from ferryman.core.artifact import Artifact
from ferryman.core.errors import FerrymanError
from ferryman.core.plugins import find, targets_of
from ferryman.core.proof import CandidateProof
from ferryman.core.scratch import scratch_folder

_TIMING_S = 10.0
"""Seconds that it takes to time what is served together, and each export alone."""
_GAINS = ("int8", "int8-dynamic", "w8", "w4", "fp16")
"""Lower precisions by what they usually bring, of which the first is tried first where two cost the same."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Know when to start nothing new: so that `budget_s` after `started` (time.monotonic) all is done, or never.

    `set_by` are the words with which the user set it.
    """

    started: float
    budget_s: float | None = None
    set_by: str = ""

    def share(self) -> float:
        """Give the moment at which one candidate is given up: none may take more than half of what is left."""
        now = time.monotonic()
        return now + max(self.deadline() - now, 0.0) / 2

    def deadline(self, held: Sequence[Result] = ()) -> float:
        """Give the moment from which on nothing is begun: what holds by then must still be timed.

        A fifth of the budget is kept for that, or what it takes, but never more than half.
        """
        if self.budget_s is None:
            return float("inf")
        exports = sum(not result.candidate.serves for result in held)
        reserve = max(self.budget_s / 5, _TIMING_S * (1 + exports))
        return self.started + self.budget_s - min(reserve, self.budget_s / 2)


def weigh(workshop: Workshop, plan: Plan) -> Plan:
    """Give the plan with what each candidate took in an earlier build, and whether it lies in the cache."""
    past = _read_costs(workshop.cache, workshop.source)
    ratios = [past[one.name] / one.cost_s for one in plan.candidates if one.name in past and one.cost_s]
    scale = max(median(ratios), 1.0) if ratios else 1.0  # guesses know neither this machine nor how much data there is
    return replace(plan, candidates=tuple(_weighed(workshop, one, past, scale) for one in plan.candidates))


def _weighed(workshop: Workshop, candidate: Candidate, past: dict[str, float], scale: float) -> Candidate:
    if candidate.unavailable:
        return candidate
    cost_s = past.get(candidate.name, scale * candidate.cost_s)
    return replace(candidate, cost_s=cost_s, is_made=workshop.is_made(candidate))


def assess(workshop: Workshop, plan: Plan, clock: Clock) -> list[Result]:
    """Try every candidate, and repair what breaks the contract; the results are in the plan's order.

    Without a time budget they are also tried in that order, so that equal inputs give equal bundles: what repaired one
    is tried first at the next. With one, what is cached comes first, then what is cheap, target by target; what wasn't
    begun in time is told. What was made is judged; one whose converter takes more than half of what is left is given
    up. One that can be served is tried in any case.
    """
    order = list(plan.candidates) if clock.budget_s is None else _cheapest_first(weigh(workshop, plan).candidates)
    needed = next((one.name for one in order if one.serves and not one.unavailable), "")
    trier = _Trier(workshop, plan, clock)
    results: dict[str, Result] = {}
    for candidate in order:
        if candidate.unavailable:
            status = "on device" if candidate.unavailable.startswith(ON_DEVICE) else "unavailable"
            proof = untried(candidate, status=status, reason=candidate.unavailable.removeprefix(ON_DEVICE))
            results[candidate.name] = Result(candidate, proof)
        elif candidate.name != needed and time.monotonic() > clock.deadline(_held(results.values())):
            results[candidate.name] = Result(candidate, untried(candidate, status="not tried", reason=_out(clock)))
        else:
            workshop.deadline = math.inf if candidate.name == needed else clock.share()
            results[candidate.name] = trier.run(candidate)
    workshop.deadline = math.inf
    return [results[candidate.name] for candidate in plan.candidates]


def _held(results: Iterable[Result]) -> list[Result]:
    return [result for result in results if result.artifact]


def _out(clock: Clock) -> str:
    return f"out of time ({clock.set_by or f'build.time_budget_s is {clock.budget_s:g}'})"


def _cheapest_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Give each target and each format asked for its cheapest, then each its second, so that none is left with none."""

    def cost(candidate: Candidate) -> tuple[bool, float, int]:
        precision = candidate.precision.removeprefix("pruned-")
        gain = _GAINS.index(precision) if precision in _GAINS else len(_GAINS)
        return not candidate.is_made, candidate.cost_s, gain

    ranks: dict[str, int] = {}
    before: Counter[str] = Counter()
    for candidate in sorted(candidates, key=cost):
        groups = candidate.targets or ("server" if candidate.serves else candidate.format,)
        ranks[candidate.name] = min(before[group] for group in groups)
        before.update(() if candidate.unavailable else groups)
    return sorted(candidates, key=lambda candidate: (ranks[candidate.name], *cost(candidate)))


class _Trier:
    """Try one candidate after the other; options that held for one are tried early at the next."""

    def __init__(self, workshop: Workshop, plan: Plan, clock: Clock) -> None:
        self._workshop = workshop
        self._plan = plan
        self._clock = clock
        self._deadline = min(time.monotonic() + workshop.deployment.build.budget_s, clock.deadline())
        self._graphs: dict[tuple[str, ...], Artifact | None] = {}
        self._learned: dict[tuple[str, ...], Options] = {}

    def run(self, candidate: Candidate) -> Result:
        """Make, examine and repair a candidate, and remember what that took where it was work."""
        workshop = self._workshop
        workshop.progress(candidate.name)
        started, misses = time.monotonic(), workshop.cache.misses
        pruning = pruned_by(candidate)
        repairer = Repairer(workshop, candidate, partial(self._graph, candidate, pruning), deadline=self._deadline)
        outcome = repairer.run(self._learned.get(pruning, {}))
        result = _settle(workshop, candidate, outcome)
        if result.proof.status == "failed" and time.monotonic() > workshop.deadline:  # that is why, or might be
            reason = result.proof.reason.partition("(allow more")[0].strip()  # of one step, and its chatter
            told = f"given up, {_out(self._clock)}: {reason}"
            result.proof = result.proof.model_copy(update={"reason": told})
        if result.proof.status == "repaired" and outcome.accepted:
            self._learned[pruning] = outcome.accepted.options
        if workshop.cache.misses > misses:
            _note_cost(workshop.cache, workshop.source, candidate.name, time.monotonic() - started)
        return result

    def _graph(self, candidate: Candidate, pruning: tuple[str, ...]) -> Artifact | None:
        if pruning not in self._graphs:
            self._graphs[pruning] = self._float_graph(candidate, pruning)
        return self._graphs[pruning]

    def _float_graph(self, candidate: Candidate, pruning: tuple[str, ...]) -> Artifact | None:
        """Make the ONNX graph that steps start from and node names refer to; None where nothing can make one."""
        workshop = self._workshop
        try:
            if pruning:  # another graph than the source's, with names of its own
                graph = workshop.make(replace(candidate, steps=pruning))
                return graph if graph.format == "onnx" else None
            if workshop.source.format == "onnx":
                return workshop.base
            everything = uncalibrated(self._plan.source_format, workshop.deployment.build)
            route = next((c for c in everything if c.format == "onnx" and c.precision == "fp32"), None)
            return workshop.make(route) if route and not route.unavailable else None
        except FerrymanError:
            return None  # the candidate itself will say why


def pruned_by(candidate: Candidate) -> tuple[str, ...]:
    """Give the steps up to the one that prunes; empty where none does."""
    found = [place for place, name in enumerate(candidate.steps) if find("steps", name).cls.precision == "pruned"]
    return candidate.steps[: found[-1] + 1] if found else ()


def _settle(workshop: Workshop, candidate: Candidate, outcome: Outcome) -> Result:
    """Turn the tries at a candidate into its line in the proof."""
    trial = outcome.best
    attempts = tuple(trial.attempt for trial in outcome.trials)
    proof = CandidateProof(
        name=candidate.name,
        format=candidate.format,
        precision=candidate.precision,
        steps=candidate.steps,
        status="failed" if outcome.trials[0].applies else "unavailable",
        reason=attempts[0].error,
        attempts=attempts,
        divergence=outcome.divergence,
        kept_in_float=outcome.kept,
        targets=targets_of(candidate.format),
    )
    if trial.artifact is None or trial.examined is None:
        return Result(candidate, proof)
    held = "accepted" if len(attempts) == 1 else "repaired"
    proof = proof.model_copy(
        update={
            "digest": trial.artifact.digest,
            "status": held if outcome.accepted else "refused",
            "reason": "" if outcome.accepted else trial.attempt.why,
            "parity": trial.examined.parity,
            "agreement": trial.examined.agreement,
            "accuracy": trial.examined.accuracy,
            "calibration": trial.examined.calibration,
            "score_histogram": trial.examined.score_histogram,
            "clauses": tuple(trial.clauses),
        }
    )
    return Result(candidate, proof, trial.artifact if outcome.accepted else None)


def _costs_file(cache: Cache, source: Artifact) -> Path:
    return cache.folder / "values" / f"costs-{source.digest[:24]}.json"


def _read_costs(cache: Cache, source: Artifact) -> dict[str, float]:
    """Give the seconds that each candidate of a source took when it was last made; a guide, which may be old."""
    with suppress(OSError, ValueError):
        stored = json.loads(_costs_file(cache, source).read_text(encoding="utf-8"))
        return {name: float(seconds) for name, seconds in stored.items() if isinstance(seconds, int | float)}
    return {}


def _note_cost(cache: Cache, source: Artifact, name: str, seconds: float) -> None:
    costs = {**_read_costs(cache, source), name: round(seconds, 2)}
    file = _costs_file(cache, source)
    with suppress(OSError), scratch_folder(cache.folder, prefix="unfinished-") as scratch:  # a guide is no result
        file.parent.mkdir(parents=True, exist_ok=True)
        (scratch / file.name).write_text(json.dumps(costs), encoding="utf-8")
        (scratch / file.name).replace(file)
