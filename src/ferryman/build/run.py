"""Run a build: open, plan, try, repair, measure, choose, bundle."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from ferryman.build.baseline import describe
from ferryman.build.cache import Cache, package_versions
from ferryman.build.plan import Candidate, Plan, make_plan, uncalibrated
from ferryman.build.repair import Options, Outcome, Repairer
from ferryman.build.samples import gather_samples, golden_samples
from ferryman.build.verdict import Result, conclude, measure, untried
from ferryman.build.workshop import Workshop
from ferryman.bundle.write import write_bundle
from ferryman.core.artifact import Artifact
from ferryman.core.bundle import Bundle
from ferryman.core.deployment import Project
from ferryman.core.errors import DataError, FerrymanError
from ferryman.core.progress import Progress, silent
from ferryman.core.proof import CandidateProof, Proof
from ferryman.core.task import bind_task
from ferryman.sources.detect import digest_source, open_source
from ferryman.sources.fetch import fetch
from ferryman.tasks.tabular import TabularSpec, fill_columns


@dataclass(frozen=True, slots=True)
class Built:
    """Hold what a build came to. `cached` and `ran` count results that were found and that had to be computed."""

    bundle: Bundle
    proof: Proof
    holds: bool
    seconds: float
    cached: int
    ran: int


def plan_project(project: Project, cache: Cache, *, progress: Progress = silent) -> Plan:
    """Open the source and list the candidates; runs no step."""
    workshop = open_workshop(project, cache, progress)
    return _plan(workshop)


def build_project(project: Project, output: Path, cache: Cache, *, progress: Progress = silent) -> Built:
    """Build a bundle at `output`; raises UserError for what the user has to mend first.

    When no candidate keeps the contract, the source model as it is goes into the bundle and `holds` is False.
    """
    started = time.monotonic()
    workshop = open_workshop(project, cache, progress)
    _refuse_useless_metric(workshop)
    results = _assess(workshop, _plan(workshop))
    results = measure(workshop, results)
    proof, chosen = conclude(workshop, results)
    progress("bundle")
    bundle = _bundle(workshop, chosen, proof, output)
    return Built(bundle, proof, proof.holds, time.monotonic() - started, cache.hits, cache.misses)


def _open(project: Project, cache: Cache, progress: Progress) -> Artifact:
    model = project.deployment.model
    path = fetch(model.source, project.folder, cache=cache.folder / "downloads", sha256=model.sha256, progress=progress)
    progress("open the source model")
    key: JsonValue = [str(path), digest_source(path, model, cache.folder)]
    return cache.artifact("source", key, lambda workspace: open_source(path, model, workspace))


def open_workshop(project: Project, cache: Cache, progress: Progress) -> Workshop:
    """Open the source model, bind its task and list the user's samples."""
    source = _open(project, cache, progress)
    spec = project.deployment.task.resolved(project.folder)
    if isinstance(spec, TabularSpec):
        spec = fill_columns(spec, source.loader.get("feature_names"))
    deployment = project.deployment.model_copy(update={"task": spec})
    task = bind_task(spec, source.signature)
    calibration, samples = gather_samples(Project(project.folder, deployment), source.signature)
    return Workshop(deployment, source, task, samples, calibration, cache, progress)


def _refuse_useless_metric(workshop: Workshop) -> None:
    """Raise DataError where the source itself measures nothing: no candidate could be any worse."""
    figures = workshop.source_figures
    if figures and figures["higher_is_better"] and (figures["value"] == 0 or figures["value"] != figures["value"]):
        raise DataError(
            f"the source model itself measures {figures['metric']} {figures['value']:g} on the labelled samples",
            hint="[task] (input, decoder, labels) or data.evaluation is not what the model was trained with; "
            "without data.evaluation a build measures no metric",
        )


def _plan(workshop: Workshop) -> Plan:
    count = len(workshop.calibration.items) if workshop.calibration else 0
    return make_plan(workshop.source.format, workshop.deployment.build, calibration=count)


def _assess(workshop: Workshop, plan: Plan) -> list[Result]:
    deadline = time.monotonic() + workshop.deployment.build.budget_s
    graph = _float_graph(workshop, plan)
    results: list[Result] = []
    learned: Options = {}
    for candidate in plan.candidates:
        if candidate.unavailable:
            results.append(Result(candidate, untried(candidate, status="unavailable", reason=candidate.unavailable)))
            continue
        workshop.progress(candidate.name)
        outcome = Repairer(workshop, candidate, graph, deadline=deadline).run(learned)
        result = _settle(workshop, candidate, outcome)
        results.append(result)
        if result.proof.status == "repaired" and outcome.accepted:
            learned = outcome.accepted.options
    return results


def _float_graph(workshop: Workshop, plan: Plan) -> Artifact | None:
    """Make the ONNX graph that steps start from and node names refer to; None where nothing can make one."""
    if workshop.source.format == "onnx":
        return workshop.base
    everything = uncalibrated(plan.source_format, workshop.deployment.build)
    route = next((c for c in everything if c.format == "onnx" and c.precision == "fp32"), None)
    if route is None or route.unavailable:
        return None
    try:
        return workshop.make(route)
    except FerrymanError:
        return None  # the candidate itself will say why


def _settle(workshop: Workshop, candidate: Candidate, outcome: Outcome) -> Result:
    """Turn the tries at a candidate into its line in the proof."""
    trial = outcome.accepted or min(outcome.trials, key=lambda trial: trial.badness)
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
    )
    if trial.artifact is None:
        return Result(candidate, proof)
    examined = workshop.examine(trial.artifact, candidate.name)
    held = "accepted" if len(attempts) == 1 else "repaired"
    proof = proof.model_copy(
        update={
            "digest": trial.artifact.digest,
            "status": held if outcome.accepted else "refused",
            "reason": "" if outcome.accepted else trial.attempt.why,
            "parity": examined.parity,
            "agreement": examined.agreement,
            "accuracy": examined.accuracy,
            "score_histogram": examined.score_histogram,
            "clauses": tuple(trial.clauses),
        }
    )
    return Result(candidate, proof, trial.artifact if outcome.accepted else None)


def _bundle(workshop: Workshop, artifact: Artifact, proof: Proof, output: Path) -> Bundle:
    golden = golden_samples(workshop, artifact)
    some = list(range(min(len(workshop.samples.items), 64)))

    def measure() -> JsonValue:
        inputs = (workshop.prepared[index].inputs for index in range(min(len(workshop.prepared), len(some))))
        return cast(JsonValue, describe(inputs, workshop.answers(artifact, some)))

    spec = cast(JsonValue, workshop.deployment.task.model_dump(mode="json"))
    key: JsonValue = [artifact.digest, workshop.samples.digest, spec]
    baseline = workshop.cache.values("baseline", key, measure)
    return write_bundle(
        output,
        deployment=workshop.deployment,
        artifact=replace(artifact, loader={}),
        proof=proof,
        golden=golden,
        tolerance=dict(workshop.task.tolerance),
        baseline=baseline,
        versions=package_versions(),
    )
