"""Examine a file that somebody else made as a candidate of this project: the same figures, the same contract."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from ferryman.build.cache import Cache
from ferryman.build.doubt import doubt_source
from ferryman.build.judge import accuracy_clauses, why_refused
from ferryman.build.run import open_workshop
from ferryman.build.workshop import Workshop
from ferryman.core.artifact import Artifact
from ferryman.core.contract import Clause
from ferryman.core.deployment import ModelSection, Project
from ferryman.core.errors import FerrymanError
from ferryman.core.plugins import runtime_for
from ferryman.core.progress import Progress, silent
from ferryman.core.proof import CandidateProof, Divergence
from ferryman.core.runtime import Session, Tracer
from ferryman.core.signature import Signature, TensorSpec
from ferryman.sources.detect import open_source
from ferryman.verify.blame import first_divergence
from ferryman.verify.examine import Examination, answer_samples
from ferryman.verify.match import Traced, match_stages
from ferryman.verify.reconcile import (
    Pair,
    ReconciledSession,
    assumptions,
    pair_inputs,
    pair_outputs,
    refuse_batch,
    their_inputs,
)

_UNKNOWN = "unknown"
"""The precision of a file that somebody else made: equal answers are asked of it, where it hasn't equal tensors."""


@dataclass(frozen=True, slots=True)
class Examined:
    """Hold the verdict on a file, what was assumed to set it beside the source, and which stage is to blame."""

    proof: CandidateProof
    assumed: tuple[str, ...]
    metric: str | None
    source_value: float | None
    warnings: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Tell whether the file keeps the contract's promises on accuracy."""
        return self.proof.status == "accepted"


def examine_file(project: Project, file: Path, cache: Cache, *, progress: Progress = silent) -> Examined:
    """Set a model file beside the project's source on the project's data; nothing is repaired or bundled.

    Raises SourceError where the file's inputs or outputs can't be those of the source.
    """
    workshop = open_workshop(project, cache, progress)
    model = ModelSection(name="candidate", source=str(file), trust=project.deployment.model.trust)
    opened = open_source(file, model, cache.folder)
    refuse_batch(workshop.source.signature, opened.signature)
    artifact = replace(opened, signature=_as_floats(workshop.source.signature, opened))
    with closing(workshop.open(artifact)) as session:
        inputs = pair_inputs(workshop.source.signature.inputs, artifact.signature.inputs)
        outputs = _pair_outputs(workshop, artifact, session, inputs)
        asked = ReconciledSession(session, workshop.source.signature, (inputs, outputs))
        given = answer_samples(
            workshop.task, asked, workshop.prepared, progress=progress, stage=f"{file.name}: samples"
        )
    contract = workshop.deployment.contract
    examined = workshop.reference.examine(given, metric=contract.metric, seed=workshop.seed)
    clauses, why = _judged(workshop, examined)
    proof = CandidateProof(
        name=file.name,
        format=artifact.format,
        precision=_UNKNOWN,
        digest=artifact.digest,
        status="refused" if why else "accepted",
        reason=why,
        clauses=tuple(clauses),
        divergence=_blame(workshop, artifact, inputs) if why else None,
        **{key: getattr(examined, key) for key in type(examined).model_fields if key in CandidateProof.model_fields},
    )
    figures = workshop.source_figures
    told = (*assumptions(inputs, "input"), *assumptions(outputs, "output"), *_told_of_floats(opened, artifact))
    doubt = doubt_source(workshop)
    return Examined(proof, told, figures.get("metric"), figures.get("value"), (doubt,) if doubt else ())


def _as_floats(signature: Signature, opened: Artifact) -> Signature:
    """Give the file's signature with float inputs where the source has floats and the file has scaled whole numbers."""
    scaled = opened.loader.get("scaling", {})
    takes_floats = all(spec.dtype.startswith("float") for spec in signature.inputs)

    def told(spec: TensorSpec) -> TensorSpec:
        return spec.model_copy(update={"dtype": "float32"}) if takes_floats and spec.name in scaled else spec

    return Signature(inputs=tuple(told(spec) for spec in opened.signature.inputs), outputs=opened.signature.outputs)


def _told_of_floats(opened: Artifact, artifact: Artifact) -> list[str]:
    scaled = opened.loader.get("scaling", {})
    pairs = zip(opened.signature.inputs, artifact.signature.inputs, strict=True)
    return [
        f"input '{before.name}' is {before.dtype}: the source's numbers were divided by {scaled[before.name][0]:g} and "
        f"moved by {scaled[before.name][1]}, as the file says"
        for before, after in pairs
        if before.dtype != after.dtype
    ]


def _pair_outputs(workshop: Workshop, artifact: Artifact, session: Session, inputs: Sequence[Pair]) -> list[Pair]:
    wanted, theirs = workshop.source.signature.outputs, artifact.signature.outputs
    got = session.infer(their_inputs(workshop.prepared[0].inputs, inputs))
    return pair_outputs(wanted, theirs, workshop.reference.given.outputs[0], got)


def _judged(workshop: Workshop, examined: Examination) -> tuple[list[Clause], str]:
    """Give the clauses and why they refuse the file: equal tensors tell all that there is to know of its precision."""
    contract, samples = workshop.deployment.contract, workshop.samples
    exact = accuracy_clauses(contract, examined, precision="fp32", samples=samples)
    if any(clause.name == "max_error" and clause.holds for clause in exact):
        return exact, why_refused(exact, precision="fp32")
    clauses = accuracy_clauses(contract, examined, precision=_UNKNOWN, samples=samples)
    return clauses, why_refused(clauses, precision=_UNKNOWN)


def _blame(workshop: Workshop, artifact: Artifact, inputs: Sequence[Pair]) -> Divergence | None:
    """Name the first stage of the source whose like in the file is wrong, and who makes it there."""
    workshop.progress("which stage diverges?")
    graph = workshop.base
    runtimes = [runtime_for(one.format).require()() for one in (graph, artifact)]
    if not all(isinstance(runtime, Tracer) for runtime in runtimes):
        return None
    first = workshop.prepared[0].inputs
    try:
        matched = match_stages(
            Traced(runtimes[0], graph, first), Traced(runtimes[1], artifact, their_inputs(first, inputs))
        )
    except FerrymanError:
        return None
    found = first_divergence(matched.noises)
    maker = matched.makers.get(found.tensor) if found else None
    if found is None or maker is None:
        return found
    return found.model_copy(update={"node": f"{found.node} (in the file: {maker.node})"})
