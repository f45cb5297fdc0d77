"""Rank the parts of a graph by the harm that quantizing them does: measured, not guessed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import JsonValue

from ferryman.build.plan import Candidate
from ferryman.build.workshop import Workshop
from ferryman.core.artifact import Artifact
from ferryman.core.errors import FerrymanError
from ferryman.core.plugins import runtime_for
from ferryman.core.progress import silent
from ferryman.core.proof import Divergence
from ferryman.core.runtime import Tracer
from ferryman.optimize.groups import groups
from ferryman.verify.blame import StageNoise, first_divergence, sqnr_db, stage_noise

_TRACED_SAMPLES = 3


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Hold a group of nodes of one kind and the harm done when it alone is quantized."""

    name: str
    nodes: tuple[str, ...]
    harm: float


def rank_groups(workshop: Workshop, candidate: Candidate, graph: Artifact, base: dict[str, Any]) -> list[Sensitivity]:
    """Quantize each kind of operator by itself and measure; the most harmful first. `base` are options kept.

    Harm is the mean change of confidence on calibration samples where the task has confidences, else the noise of the
    outputs as a ratio of amplitudes. Groups that belong to the head are left out when `base` keeps that in float.
    """
    ranked = []
    keeps_head = bool(base.get("exclude_head") or base.get("exclude_tail"))
    for group in groups(graph.path):
        if keeps_head and (group.is_tail or group.is_head):
            continue
        workshop.progress(f"{candidate.name}: how sensitive is {group.name}?")
        harm = _harm_of(workshop, candidate, {**base, "only_nodes": tuple(group.nodes)})
        if harm is not None:
            ranked.append(Sensitivity(group.name, tuple(group.nodes), harm))
    return sorted(ranked, key=lambda group: group.harm, reverse=True)


def _harm_of(workshop: Workshop, candidate: Candidate, options: dict[str, Any]) -> float | None:  # a step's own
    try:
        artifact = workshop.make(candidate, options, progress=silent)
    except FerrymanError:
        return None  # this kind of operator can't be quantized at all

    def measure() -> JsonValue:
        reference = workshop.calibration_reference
        got = workshop.answer(artifact, reference.prepared, stage="", progress=silent)
        agreement = workshop.task.agreement(reference.given.answers, got.answers).figures
        calls = zip(reference.given.outputs, got.outputs, strict=True)
        pairs = [(want[name], out[name]) for want, out in calls for name in want if want[name].dtype.kind == "f"]
        noise_db = min((sqnr_db(want, out) for want, out in pairs), default=0.0)
        return agreement.get("score_shift", 10 ** (-noise_db / 20))

    samples = workshop.calibration.digest if workshop.calibration else ""
    return float(workshop.cache.values("sensitivity", [artifact.digest, workshop.source.digest, samples], measure))


def trace_noise(workshop: Workshop, graph: Artifact, artifact: Artifact) -> list[StageNoise]:
    """Compare intermediate tensors of an artifact with the float graph that it was made from."""
    float_runtime = runtime_for(graph.format).require()()
    runtime = runtime_for(artifact.format).require()()
    if not isinstance(float_runtime, Tracer) or not isinstance(runtime, Tracer):
        return []
    prepared = workshop.prepared
    inputs = [prepared[index].inputs for index in range(min(_TRACED_SAMPLES, len(prepared)))]
    return stage_noise((float_runtime, graph), (runtime, artifact), inputs)


def blame(workshop: Workshop, graph: Artifact, artifact: Artifact) -> Divergence | None:
    """Name the first stage of `graph` that diverges in `artifact`; None where it can't be traced."""

    def measure() -> JsonValue:
        workshop.progress("which stage diverges?")
        found = first_divergence(trace_noise(workshop, graph, artifact))
        return found.model_dump_json() if found else None

    key: JsonValue = [graph.digest, artifact.digest, workshop.samples.digest]
    stored = cast("str | None", workshop.cache.values("blame", key, measure))
    return Divergence.model_validate_json(stored) if stored else None


def rank_layers(
    workshop: Workshop, candidate: Candidate, nodes: Sequence[str], base: dict[str, Any], *, deadline: float
) -> list[Sensitivity]:
    """Quantize each layer by itself and measure, the most harmful first; as many layers as the time allows."""
    ranked = []
    for index, node in enumerate(nodes):
        if time.monotonic() > deadline:
            break
        workshop.progress(f"{candidate.name}: how sensitive is each layer?", done=index, total=len(nodes))
        harm = _harm_of(workshop, candidate, {**base, "only_nodes": (node,)})
        if harm is not None:
            ranked.append(Sensitivity(node, (node,), harm))
    return sorted(ranked, key=lambda layer: layer.harm, reverse=True)
