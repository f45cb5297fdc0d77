"""Run a build: open, plan, try, repair, measure, choose, bundle."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import JsonValue

from ferryman.build.baseline import measure_baseline
from ferryman.build.cache import Cache, package_versions
from ferryman.build.doubt import doubt_source
from ferryman.build.exports import check_targets, missing_exports
from ferryman.build.in_graph import add_in_graph, check_in_graph, describe_in_graph, has_in_graph
from ferryman.build.plan import Plan, make_plan
from ferryman.build.samples import check_calibration, gather_samples, golden_samples, list_served
from ferryman.build.search import Clock, assess, weigh
from ferryman.build.verdict import conclude, measure
from ferryman.build.workshop import Workshop
from ferryman.bundle.write import write_bundle
from ferryman.core.artifact import CARRIED, Artifact
from ferryman.core.bundle import Bundle
from ferryman.core.deployment import Project
from ferryman.core.errors import ConfigError, DataError
from ferryman.core.progress import Progress, silent
from ferryman.core.proof import Proof
from ferryman.core.task import bind_task
from ferryman.sources.detect import digest_source, open_source
from ferryman.sources.fetch import fetch
from ferryman.tasks.javascript.module import render_page
from ferryman.tasks.tabular import TabularSpec, TabularTask, fill_columns, fill_labels, fill_missing
from ferryman.verify.in_graph import is_in_graph


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
    return weigh(workshop, _plan(workshop))


def build_project(
    project: Project,
    output: Path,
    cache: Cache,
    *,
    time_budget_s: float | None = None,
    progress: Progress = silent,
) -> Built:
    """Build a bundle at `output`; raises UserError for what the user has to mend first.

    `time_budget_s` goes before `build.time_budget_s`, and is not written into the bundle.

    When no candidate keeps the contract, the source model as it is goes into the bundle and `holds` is False, as it is
    where a format that was asked for could not be exported, or a target has no winner.
    """
    started = time.monotonic()
    workshop = open_workshop(project, cache, progress)
    list_served(workshop)  # raises where there are none: now, not after all the work
    check_in_graph(workshop)
    plan = _plan(workshop)
    check_calibration(workshop, plan)
    _refuse_useless_metric(workshop)
    if doubt := doubt_source(workshop):  # told at the end, too: but that may be hours from here
        progress("source model", note=f"warning: {doubt}")
    results = assess(workshop, plan, _clock(workshop, started, time_budget_s))
    results = measure(workshop, results)
    proof, chosen, exports = conclude(workshop, results)
    proof, exports = add_in_graph(workshop, proof, chosen, exports)
    progress("bundle")
    bundle = _bundle(workshop, chosen, exports, proof, output)
    holds = proof.holds and not missing_exports(workshop.deployment, results)
    holds = holds and all(choice.winner for choice in proof.targets.values())
    holds = holds and has_in_graph(workshop.deployment, proof)
    return Built(bundle, proof, holds, time.monotonic() - started, cache.hits, cache.misses)


def _clock(workshop: Workshop, started: float, given_s: float | None) -> Clock:
    if given_s is not None:
        return Clock(started, given_s, f"--time-budget {given_s:g}s")
    return Clock(started, workshop.deployment.build.time_budget_s)


def _open(project: Project, cache: Cache, progress: Progress) -> Artifact:
    model = project.deployment.model
    path = fetch(model.source, project.folder, cache=cache.folder / "downloads", sha256=model.sha256, progress=progress)
    progress("open the source model")
    key: JsonValue = [str(path), digest_source(path, model, cache.folder)]
    return cache.artifact("source", key, lambda workspace: open_source(path, model, workspace))


def open_workshop(project: Project, cache: Cache, progress: Progress) -> Workshop:
    """Open the source model, bind its task and list the user's samples."""
    check_targets(project.deployment)
    source = _open(project, cache, progress)
    spec = project.deployment.task.resolved(project.folder)
    if isinstance(spec, TabularSpec):
        spec = fill_columns(spec, source.loader.get("feature_names"))
        spec = fill_labels(spec, source.loader.get("classes"))
    deployment = project.deployment.model_copy(update={"task": spec})
    task = bind_task(spec, source.signature)
    calibration, samples = gather_samples(Project(project.folder, deployment), source.signature)
    if isinstance(spec, TabularSpec) and isinstance(task, TabularTask):
        spec = fill_missing(spec, task, [*samples.items, *(calibration.items if calibration else ())])
        deployment = deployment.model_copy(update={"task": spec})
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
    source = workshop.source
    return make_plan(source.format, workshop.deployment.build, calibration=count, precision=source.precision)


def _page(workshop: Workshop, name: str, export: Artifact) -> dict[str, str]:
    """Give the page that tries a model in a browser, for a format that runs there; of one with its task, what it is."""
    if is_in_graph(export):
        return describe_in_graph(workshop.deployment, name, export)
    if not (export.path / "engine.js").is_file():
        return {}
    title = f"{workshop.deployment.model.name}: {name}"
    try:
        return render_page(workshop.deployment.task, export.signature, title=title)
    except ConfigError as error:  # a plug-in's task, which has no JavaScript: the model is exported all the same
        workshop.progress("bundle", note=f"{name} has no page: {error}")
        return {}


def _bundle(workshop: Workshop, artifact: Artifact, exports: dict[str, Artifact], proof: Proof, output: Path) -> Bundle:
    golden = golden_samples(workshop, artifact)
    return write_bundle(
        output,
        deployment=workshop.deployment,
        artifact=_carried(artifact),
        proof=proof,
        golden=golden,
        tolerance=dict(workshop.task.tolerance),
        baseline=measure_baseline(workshop, artifact),
        versions=package_versions(),
        exports={name: _carried(export) for name, export in exports.items()},
        pages={name: _page(workshop, name, export) for name, export in exports.items()},
    )


def _carried(artifact: Artifact) -> Artifact:
    return replace(artifact, loader={key: value for key, value in artifact.loader.items() if key in CARRIED})
