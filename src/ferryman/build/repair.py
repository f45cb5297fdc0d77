"""Try a candidate, and when it breaks the contract repair it: cheap changes first, then sensitive parts in float."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from ferryman.build.judge import accuracy_clauses, badness, is_measured, why_refused
from ferryman.build.kept import kept_in_float
from ferryman.build.plan import Candidate
from ferryman.build.sensitivity import blame, rank_groups, rank_layers
from ferryman.build.workshop import Workshop, make_step
from ferryman.core.artifact import Artifact
from ferryman.core.contract import Clause
from ferryman.core.errors import ConfigError, FerrymanError, NotApplicable, UserError
from ferryman.core.plugins import find
from ferryman.core.proof import Attempt, Divergence, Kept
from ferryman.verify.examine import Examination

Options = dict[str, Any]  # a step's own
_FIRST = "as configured"


@dataclass(slots=True)
class Trial:
    """Hold one try: the artifact that came out, its clauses and its line in the proof."""

    attempt: Attempt
    options: Options = field(default_factory=dict)
    artifact: Artifact | None = None
    examined: Examination | None = None
    applies: bool = True
    clauses: list[Clause] = field(default_factory=list)

    @property
    def badness(self) -> float:
        """Give how far this try is from holding; infinite where nothing came out."""
        return badness(self.clauses) if self.artifact else float("inf")


@dataclass(slots=True)
class Outcome:
    """Hold all tries at one candidate, the one that holds (if any), and where the first one diverged."""

    trials: list[Trial]
    divergence: Divergence | None = None
    kept: tuple[Kept, ...] = ()
    """What the best try leaves in float; empty where the graph or the step tells nothing of it."""

    @property
    def best(self) -> Trial:
        """Give the try that keeps the promise, else the one nearest to it."""
        return self.accepted or min(self.trials, key=lambda trial: trial.badness)

    @property
    def accepted(self) -> Trial | None:
        """Give the try that keeps the promise."""
        return next((trial for trial in self.trials if trial.attempt.holds), None)


class Repairer:
    """Climb the ladder of repairs for one candidate, until one holds or the time is up.

    `find_graph` gives the float ONNX graph that node names refer to; it is asked for when it is needed. `learned` are
    options that held for a sibling candidate: they are tried first after the head, since what is sensitive is mostly
    the network's own.
    """

    def __init__(
        self, workshop: Workshop, candidate: Candidate, find_graph: Callable[[], Artifact | None], *, deadline: float
    ) -> None:
        self._workshop = workshop
        self._candidate = candidate
        self._find_graph = find_graph
        self._deadline = deadline
        self._tried: list[Options] = []
        self._seen: list[object] = []
        self._rankable: tuple[str, ...] = ()
        step = find("steps", candidate.steps[-1]).cls if candidate.steps else None
        self._known = {entry.name for entry in fields(step)} if step else set()
        self._calibrators: tuple[str, ...] = getattr(step, "calibrators", ())
        self._remedies: tuple[tuple[str, Options], ...] = getattr(step, "remedies", ())

    @cached_property
    def _graph(self) -> Artifact | None:
        return self._find_graph()

    def run(self, learned: Options) -> Outcome:
        """Try the candidate as ferryman.toml says; where it is refused, say which stage is to blame and repair it."""
        outcome = Outcome([self._try(_FIRST, {})])
        self._repair(outcome, learned)
        steps = self._candidate.steps
        tells = bool(steps) and outcome.best.artifact is not None and "exclude_nodes" in self._known
        if tells and (graph := self._graph) is not None:
            options = {**self._workshop.deployment.build.options.get(steps[-1], {}), **outcome.best.options}
            outcome.kept = kept_in_float(graph, steps[-1], options)
        return outcome

    def _repair(self, outcome: Outcome, learned: Options) -> None:
        trials = outcome.trials
        first = trials[0]
        if first.attempt.holds or first.artifact is None or not is_measured(first.clauses):
            return
        if self._candidate.steps and self._graph is not None:
            outcome.divergence = blame(self._workshop, self._graph, first.artifact)
        if not self._workshop.deployment.build.repair:
            return
        for label, options in self._ladder(trials, learned):
            if time.monotonic() > self._deadline:
                spent = Attempt(label=label, why="not tried: the time for repairs (build.budget_s) is up", holds=False)
                trials.append(Trial(spent))
                return
            trial = self._try(label, options)
            if trial.applies:
                trials.append(trial)
            if trial.attempt.holds:
                return

    def _ladder(self, trials: list[Trial], learned: Options) -> Iterator[tuple[str, Options]]:
        if known := self._understood(learned):
            yield from self._rung("as repaired in another format", known)
        if "sparsity" in self._known:
            asked = make_step(self._candidate.steps[-1], self._set_by_user).sparsity  # type: ignore[attr-defined]  # its own
            for share in (round(asked * part, 3) for part in (0.75, 0.5)):
                yield from self._rung(f"sparsity {share:g} instead of {asked:g}", {"sparsity": share})
        yield from self._rung("decode tail kept in float", {"exclude_tail": True})
        yield from self._rung("head kept in float", {"exclude_head": True})
        for label, remedy in self._remedies:
            yield from self._rung(label, remedy)
        best = self._best(trials)
        for calibrator in ("percentile", "entropy", "mse"):
            if calibrator in self._calibrators:
                label = _added(best.attempt, f"{calibrator} calibrator")
                yield from self._rung(label, {**best.options, "calibrator": calibrator})
        if "only_nodes" in self._known and self._graph is not None:
            yield from self._without_groups(self._graph)
            yield from self._without_layers(trials)

    def _understood(self, learned: Options) -> Options:
        """Give those of another step's options that this one has, too."""
        mine = {key: value for key, value in learned.items() if key in self._known}
        if mine.get("calibrator") not in self._calibrators:
            mine.pop("calibrator", None)
        return mine

    def _rung(self, label: str, options: Options) -> Iterator[tuple[str, Options]]:
        if set(options) <= self._known and self._is_new(options):
            yield label, options

    def _is_new(self, options: Options) -> bool:
        """Tell whether this would be another step than those tried: some options are a step's own defaults."""
        name = self._candidate.steps[-1]
        step = make_step(name, {**self._set_by_user, **options})
        return all(step != make_step(name, {**self._set_by_user, **tried}) for tried in self._tried)

    @property
    def _set_by_user(self) -> Options:
        return self._workshop.deployment.build.options.get(self._candidate.steps[-1], {})

    def _without_groups(self, graph: Artifact) -> Iterator[tuple[str, Options]]:
        """Quantize only layers with weights, with one more of their most sensitive kinds in float at each try."""
        base: Options = {"exclude_head": True} if "exclude_head" in self._known else {}
        ranked = rank_groups(self._workshop, self._candidate, graph, base, deadline=self._half_time)
        self._rankable = tuple(node for group in ranked for node in group.nodes)
        for count in range(len(ranked)):
            rest = ranked[count:]
            nodes = tuple(node for group in rest for node in group.nodes)
            yield f"only {', '.join(group.name for group in rest)} in INT8", {**base, "only_nodes": nodes}

    def _without_layers(self, trials: list[Trial]) -> Iterator[tuple[str, Options]]:
        """Keep the most sensitive single layers in float: a twentieth, a tenth, a fifth ... of those in INT8."""
        best = self._best(trials)
        nodes = tuple(best.options.get("only_nodes", self._rankable))
        ranked = rank_layers(self._workshop, self._candidate, nodes, best.options, deadline=self._half_time)
        counts = {max(1, round(len(ranked) * share)) for share in (0.05, 0.1, 0.2, 0.3, 0.5)}
        for count in sorted(counts) if ranked else ():
            kept = tuple(layer.name for layer in ranked[:count])
            layers = f"the {count} most sensitive layers" if count > 1 else "the most sensitive layer"
            yield _added(best.attempt, f"{layers} in float"), {**best.options, "exclude_nodes": kept}

    @property
    def _half_time(self) -> float:
        """Give the moment at which half of what is left for repairs is up: a ranking that nothing tries is no use."""
        now = time.monotonic()
        return now + max(self._deadline - now, 0.0) / 2

    def _best(self, trials: list[Trial]) -> Trial:
        return min(trials, key=lambda trial: trial.badness)

    def _try(self, label: str, options: Options) -> Trial:
        workshop, candidate = self._workshop, self._candidate
        self._tried.append(options)
        started, misses = time.monotonic(), workshop.cache.misses
        try:
            artifact = workshop.make(candidate, options)
            is_cached = bool(candidate.steps) and workshop.cache.misses == misses
            if (made := workshop.run_by(artifact)) in self._seen:
                workshop.progress(candidate.name, note=f"{label}: changes nothing of this model")
                return Trial(Attempt(label=label, options=_brief(options), holds=False), applies=False)
            self._seen.append(made)
            examined = workshop.examine(artifact, candidate.name, precision=candidate.judged_as)
        except FerrymanError as error:
            if _is_the_users(error, candidate, options):
                raise
            told = f"{error}" + (f" ({error.hint})" if error.hint else "")
            failed = Attempt(label=label, options=_brief(options), holds=False, error=told)
            return Trial(failed, applies=not isinstance(error, NotApplicable))
        contract = workshop.deployment.contract
        clauses = accuracy_clauses(contract, examined, precision=candidate.judged_as, samples=workshop.samples)
        why = why_refused(clauses, precision=candidate.judged_as)
        if why and examined.samples and examined.samples < len(workshop.samples.items):
            why += f" (seen on {examined.samples} of {len(workshop.samples.items)} samples, beyond doubt)"
        figures = {clause.name: clause.measured for clause in clauses if clause.measured is not None}
        if examined.accuracy:
            figures[examined.accuracy.metric] = examined.accuracy.value
        figures["size_mb"] = artifact.size_bytes / 1e6
        attempt = Attempt(
            label=label,
            why=why,
            options=_brief(options),
            figures=figures,
            holds=not why,
            seconds=round(time.monotonic() - started, 2),
            is_cached=is_cached,
        )
        workshop.progress(candidate.name, note=f"{label}: " + ("holds" if not why else f"refused, {why}"))
        return Trial(attempt, options, artifact, examined, clauses=clauses)


def _added(attempt: Attempt, repair: str) -> str:
    return repair if attempt.label == _FIRST else f"{attempt.label}, {repair}"


def _is_the_users(error: FerrymanError, candidate: Candidate, options: Options) -> bool:
    """Tell whether ferryman.toml or the data is to be mended, so that going on with other candidates is no help."""
    if isinstance(error, ConfigError):
        return not options  # with options of ours it is the ladder that asked for too much
    return isinstance(error, UserError) and not candidate.steps


def _brief(options: Options) -> dict[str, object]:
    return {
        key: f"{len(value)} nodes" if isinstance(value, tuple) and len(value) > 3 else value
        for key, value in options.items()
    }
