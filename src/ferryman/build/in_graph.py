"""Put a task into the graphs that a bundle holds: models that take pictures, beside those that take tensors."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from pydantic import JsonValue

from ferryman.build.workshop import Workshop
from ferryman.core.artifact import Artifact
from ferryman.core.deployment import Deployment
from ferryman.core.errors import ConfigError, FerrymanError, NotApplicable
from ferryman.core.proof import CandidateProof, Proof
from ferryman.export.in_graph import JOINERS
from ferryman.export.in_graph.parts import Scope, check_kind, write_parts
from ferryman.export.in_graph.readme import render_readme
from ferryman.tasks.javascript.bound import bind_spec
from ferryman.verify.in_graph import STEP, SUFFIX, examine_in_graph


def check_in_graph(workshop: Workshop) -> None:
    """Raise ConfigError where build.in_graph asks for what no graph can do: before any work."""
    deployment, signature = workshop.deployment, workshop.source.signature
    if not deployment.build.in_graph:
        return
    try:
        check_kind(deployment.task.kind)
        write_parts(bind_spec(deployment.task, signature), signature, deployment.build.in_graph)
    except NotApplicable as error:
        raise ConfigError(f"{error}", hint=error.hint) from None


def add_in_graph(
    workshop: Workshop, proof: Proof, served: Artifact, exports: Mapping[str, Artifact]
) -> tuple[Proof, dict[str, Artifact]]:
    """Give the proof and the exports with what `build.in_graph` asks for: each ONNX and OpenVINO model once more."""
    scope = workshop.deployment.build.in_graph
    added = dict(exports)
    if not scope:
        return proof, added
    models = {proof.winner: served, **exports}
    lines: list[CandidateProof] = []
    for name, artifact in models.items():
        if artifact.format in JOINERS:
            line, whole = _embed(workshop, name, artifact, scope)
            lines.append(line)
            added |= {line.name: whole} if whole else {}
    lacks = [f"{line.name} ({line.status}: {line.reason})" for line in lines if line.name not in added]
    if not lines:
        lacks = [f"build.in_graph: none of {', '.join(models)} is {' or '.join(JOINERS)}"]
    found = {
        "candidates": (*proof.candidates, *lines),
        "warnings": (*proof.warnings, *(f"asked for, and not exported: {one}" for one in lacks)),
    }
    return proof.model_copy(update=found), added


def has_in_graph(deployment: Deployment, proof: Proof) -> bool:
    """Tell whether all that `build.in_graph` asks for is there, and answers as it should."""
    lines = [line for line in proof.candidates if line.name.endswith(SUFFIX)]
    return not deployment.build.in_graph or (bool(lines) and all(line.status == "accepted" for line in lines))


def describe_in_graph(deployment: Deployment, name: str, artifact: Artifact) -> dict[str, str]:
    """Give the file that lies beside such a model, and says what goes in and what comes out."""
    labels = getattr(deployment.task, "labels", None)
    title = f"{deployment.model.name}: {name}"
    return {"README.md": render_readme(title, artifact.format, artifact.signature, labels=labels)}


def _embed(workshop: Workshop, name: str, bare: Artifact, scope: Scope) -> tuple[CandidateProof, Artifact | None]:
    """Make and examine one; a failure is its line in the proof."""
    named = f"{name}{SUFFIX}"
    workshop.progress(named)
    line = CandidateProof(name=named, format=bare.format, precision=bare.precision, steps=bare.made_by, status="failed")
    spec, samples = workshop.deployment.task, workshop.samples
    key: JsonValue = [workshop.run_by(bare), bare.signature.model_dump_json(), workshop.task_key, scope]
    try:
        bound = bind_spec(spec, bare.signature)
        join = JOINERS[bare.format]
        made = workshop.cache.artifact(STEP, key, lambda folder: join(bare, bound, scope, folder))
        whole = replace(made, precision=bare.precision, made_by=(*bare.made_by, STEP))

        def look() -> JsonValue:
            models = (bare, whole)
            found = examine_in_graph(line, spec, models, samples.items, threads=workshop.threads)
            return cast(JsonValue, found.model_dump_json())

        stored = workshop.cache.values("in-graph-proof", [key, whole.digest, samples.digest], look)
    except FerrymanError as error:
        return line.model_copy(update={"reason": f"{error}"}), None
    examined = CandidateProof.model_validate_json(stored)
    return examined, whole if examined.status == "accepted" else None
