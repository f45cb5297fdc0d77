"""Rank the parts of a graph by the harm that quantizing them does: measured, not guessed."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from pydantic import JsonValue

from ferryman.build.plan import Candidate
from ferryman.build.workshop import Workshop, make_step
from ferryman.core.artifact import Artifact
from ferryman.core.errors import FerrymanError
from ferryman.core.plugins import find, runtime_for
from ferryman.core.progress import silent
from ferryman.core.proof import Divergence
from ferryman.core.runtime import Tracer
from ferryman.optimize.groups import groups
from ferryman.verify.blame import StageNoise, first_divergence, sqnr_db, stage_noise

_TRACED_SAMPLES = 3
_PASSES = 4
_PROBED_RANGES = 16
"""Calibration samples that a probe's own ranges are found on, where a step finds them anew each time."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Hold a group of nodes of one kind and the harm done when it alone is quantized."""

    name: str
    nodes: tuple[str, ...]
    harm: float


def rank_groups(
    workshop: Workshop, candidate: Candidate, graph: Artifact, base: dict[str, Any], *, deadline: float
) -> list[Sensitivity]:
    """Quantize each kind of operator by itself and measure; the most harmful first. `base` are options kept.

    Harm is the mean change of confidence on calibration samples where the task has confidences, else the noise of the
    outputs as a ratio of amplitudes. Groups that belong to the head are left out when `base` keeps that in float.
    """
    keeps_head = bool(base.get("exclude_head") or base.get("exclude_tail"))
    parts = [group for group in groups(graph.path) if not (keeps_head and (group.is_tail or group.is_head))]
    return _rank(workshop, candidate, {group.name: tuple(group.nodes) for group in parts}, base, deadline)


def rank_layers(
    workshop: Workshop, candidate: Candidate, nodes: Sequence[str], base: dict[str, Any], *, deadline: float
) -> list[Sensitivity]:
    """Quantize each layer by itself and measure, the most harmful first; as many layers as the time allows.

    A quarter of `nodes` spread over the graph comes first, and so on: where time ends early, no end of it is unseen.
    """
    nodes = [node for start in range(_PASSES) for node in nodes[start::_PASSES]]
    return _rank(workshop, candidate, {node: (node,) for node in nodes}, base, deadline)


def _rank(
    workshop: Workshop, candidate: Candidate, parts: dict[str, tuple[str, ...]], base: dict[str, Any], deadline: float
) -> list[Sensitivity]:
    ranked = []
    for index, (name, nodes) in enumerate(parts.items()):
        if time.monotonic() > deadline:
            break
        workshop.progress(f"{candidate.name}: how sensitive is each part?", done=index, total=len(parts))
        harm = _harm_of(workshop, candidate, {**base, "only_nodes": nodes})
        if harm is not None:
            ranked.append(Sensitivity(name, nodes, harm))
    return sorted(ranked, key=lambda part: part.harm, reverse=True)


def _harm_of(workshop: Workshop, candidate: Candidate, options: dict[str, Any]) -> float | None:  # a step's own
    known = {entry.name for entry in fields(find("steps", candidate.steps[-1]).cls)}
    fewer = {"most_samples": _PROBED_RANGES} if "most_samples" in known else {}

    def measure() -> JsonValue:
        with tempfile.TemporaryDirectory(prefix="ferryman-probe-") as folder:
            try:
                artifact = workshop.probe(candidate, {**options, **fewer}, Path(folder))
            except FerrymanError:
                return None  # this kind of operator can't be quantized by itself
            reference = workshop.calibration_reference
            got = workshop.answer(artifact, reference.prepared, stage="", progress=silent)
        agreement = workshop.task.agreement(reference.given.answers, got.answers).figures
        calls = zip(reference.given.outputs, got.outputs, strict=True)
        pairs = [(want[name], out[name]) for want, out in calls for name in want if want[name].dtype.kind == "f"]
        noise_db = min((sqnr_db(want, out) for want, out in pairs), default=0.0)
        return agreement.get("score_shift", 10 ** (-noise_db / 20))

    step = make_step(candidate.steps[-1], options)
    settings = cast(JsonValue, workshop.deployment.build.options)
    key: JsonValue = [list(candidate.steps), settings, workshop.step_key(step, workshop.source), *fewer.values()]
    harm = workshop.cache.values("sensitivity", key, measure)
    return None if harm is None else float(harm)


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
        try:
            found = first_divergence(trace_noise(workshop, graph, artifact))
        except FerrymanError:
            return None
        return found.model_dump_json() if found else None

    key: JsonValue = [graph.digest, artifact.digest, workshop.samples.digest, workshop.task_key]
    stored = cast("str | None", workshop.cache.values("blame", key, measure))
    return Divergence.model_validate_json(stored) if stored else None
